"""Files and folders of Google Drive that anyone with the link may read, through gdown."""

import re
from pathlib import Path
from typing import NamedTuple

import gdown
import requests

from facerep.core.errors import FacerepError
from facerep.core.files import disk_full_named
from facerep.download.transfer import TRIES, Tick, TransferError, one_line

_TIMEOUT = (30.0, 60.0)  # seconds to connect, and between bytes
_FAILURES = (gdown.DownloadError, requests.exceptions.RequestException)


class DriveFile(NamedTuple):
    """A file of a Drive folder: its id, and its path inside the folder."""

    id: str
    path: str


def parse(url: str) -> tuple[str, str | None]:
    """`gdrive://<id>` or `gdrive://<folder id>/<file name>` as (id, file name or None).

    Raises FacerepError for any other form.
    """
    found = re.fullmatch(r"gdrive://([-\w]{10,})(?:/+([^#?]+?))?/*", url, flags=re.ASCII | re.DOTALL)
    if not found:
        raise FacerepError(f"{url}: not a Google Drive URL; write gdrive://<id> or gdrive://<folder id>/<file name>.")
    return found[1], found[2]


def choose(url: str, files: list[DriveFile], name: str) -> DriveFile:
    """The one file of a folder that `name` means, a path in it or a bare file name.

    Raises FacerepError, saying what is there, when none or several are so called.
    """
    fitting = [file for file in files if file.path == name] or [f for f in files if Path(f.path).name == name]
    if len(fitting) == 1:
        return fitting[0]
    there = ", ".join(sorted(file.path for file in files)[:10]) or "nothing"
    what = "several files are" if fitting else "no file is"
    raise FacerepError(f"{url}: {what} called {name!r} in this folder; correct the name, there are: {there}.")


def list_folder(folder_id: str) -> list[DriveFile]:
    """The files of a folder and of the folders in it, by path; empty when the id is a file's.

    Raises TransferError when Google cannot be reached.
    """
    try:
        found = gdown.download_folder(id=folder_id, skip_download=True, quiet=True, timeout=_TIMEOUT)
    except gdown.DownloadError:  # the id of a file, or a folder that is not public: then the file's download fails
        return []
    except requests.exceptions.RequestException as error:
        raise TransferError(one_line(error), again=False) from error
    return sorted((DriveFile(file.id, file.path) for file in found), key=lambda file: file.path)


def fetch(file_id: str, target: Path, tick: Tick) -> None:
    """Bring a file into `target`; a broken transfer leaves gdown's `.part` beside it and goes on from there.

    Raises TransferError when Google refuses or cannot be reached, FacerepError when the disk is full.
    """
    fetch_url(f"https://drive.google.com/uc?id={file_id}", target, tick)


def fetch_url(url: str, target: Path, tick: Tick) -> None:
    """The same for any URL that gdown takes."""
    try:
        with disk_full_named(target):
            gdown.download(
                url=url, output=str(target), quiet=True, resume=True, retries=TRIES - 1, timeout=_TIMEOUT, progress=tick
            )
    except _FAILURES as error:
        raise TransferError(one_line(error), again=False) from error
