"""Where unfinished work waits for the next run: a folder that is no DVC output, and git and DVC ignore."""

import os
from pathlib import Path
from urllib.parse import unquote

from facerep.core.files import repository_root

SCRATCH = "FACEREP_SCRATCH"


def scratch_folder() -> Path:
    """`scratch` in the repository's root, or the folder that the environment variable FACEREP_SCRATCH names.

    A relative one counts from the repository's root. Where FACEREP_SCRATCH is the URL of a bucket (see scratch_url),
    what has to lie on this machine lies in `scratch`.
    """
    value = os.environ.get(SCRATCH) or "scratch"
    if value.startswith("file://"):
        value = unquote(value.removeprefix("file://"))
    return repository_root() / Path("scratch" if "://" in value else value).expanduser()


def scratch_url() -> str | None:
    """FACEREP_SCRATCH where it is a URL that fsspec opens (`gs://bucket/prefix/`, ending with a slash), or None."""
    value = os.environ.get(SCRATCH) or ""
    if "://" not in value or value.startswith("file://"):
        return None
    return value if value.endswith("/") else value + "/"
