"""Where unfinished work waits for the next run: a folder that is no DVC output, and git and DVC ignore."""

import hashlib
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


def code_digest() -> str:
    """sha256, hex, of the names and bytes of this package's code: what unfinished work was done by."""
    digest = hashlib.sha256()
    for path in sorted(path for path in Path(__file__).parents[1].rglob("*") if path.suffix in (".py", ".c")):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()
