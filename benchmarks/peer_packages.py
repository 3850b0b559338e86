"""Packages to compare with, which facerep itself does not need: from a folder that `pip install --target` filled."""

import argparse
import importlib
import sys
from types import ModuleType

HINT = "see benchmarks/README.md"


def add_argument(parser: argparse.ArgumentParser) -> None:
    """--peers FOLDER."""
    parser.add_argument("--peers", metavar="FOLDER", help=f"where timm and lightly-train are installed ({HINT})")


def peer(name: str, folder: str | None) -> ModuleType:
    """Import a module from the environment, or else from `folder`. Raises ImportError where its package is in neither.

    The folder comes last on the path: what the environment has is used, and torch is the same for all.
    """
    if folder is not None and folder not in sys.path:
        sys.path.append(folder)
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ImportError(f"{package} is not installed; {HINT}") from None
