"""What the tests of unfinished work share."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from facerep.resume.storage import Bucket, Folder


@pytest.fixture(params=["folder", "bucket"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder | Bucket]:
    """A place with nothing in it yet: a folder, and fsspec's memory."""
    folder = tmp_path / "scratch" / "pretrain-x"
    yield Folder(folder) if request.param == "folder" else Bucket("memory://runs/pretrain-x", folder)
    fsspec.filesystem("memory").store.clear()
