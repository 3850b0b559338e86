"""Where files appear whole or not at all: a folder of this machine, or a bucket, which outlives the machine."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from facerep.core.buckets import quiet_gcsfs, why, within
from facerep.core.errors import FacerepError
from facerep.core.files import disk_full_named

LIMIT = 20  # seconds that a short question may take; gcsfs alone tries for 35
_TIMEOUT = {"sock_connect": 10, "sock_read": 60}  # seconds, of each of gcsfs's tries; its own: none


class Folder:
    """Files in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = folder.with_name(folder.name + ".lock")

    def __str__(self) -> str:
        return str(self.folder)

    def names(self) -> list[str]:
        """Of every file in the folder."""
        return [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []

    def put(self, part: Path, name: str) -> None:
        """Rename the file `part`, which lies in this folder."""
        part.replace(self.folder / name)

    @contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        """The file itself."""
        yield self.folder / name

    def delete(self, names: set[str]) -> None:
        """Delete these files, as far as they are there."""
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Bucket:
    """Files directly under `url`, each an object that appears whole or not at all.

    Args:
        url: of any file system that fsspec opens.
        folder: a folder of this machine for files on their way; it holds nothing that is needed.

    Every method raises FacerepError when the far side refuses or does not answer, and when the local disk is full.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        # not beside `folder`: clones of the repository share the bucket
        self.lock = Path(tempfile.gettempdir()) / f"facerep-{os.getuid()}" / f"{folder.name}.lock"

    def __str__(self) -> str:
        return self.url

    def names(self) -> list[str]:
        """Of every file, as it is now. A bucket that does not exist is an error, an empty one is not."""
        with self._failure_named():
            return within(LIMIT, self._find)

    def put(self, part: Path, name: str) -> None:
        """Upload the local file `part` and delete it."""
        with self._failure_named():
            system, root = self._opened()
            system.put_file(str(part), f"{root}/{name}")
        part.unlink()

    @contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        """The file on this machine, for as long as the context lasts. Processes that fetch at once do not meet."""
        part = self.folder / f".{name}.{os.getpid()}.part"
        try:
            with self._failure_named(), disk_full_named(part):
                self.folder.mkdir(parents=True, exist_ok=True)
                system, root = self._opened()
                system.get_file(f"{root}/{name}", str(part))
            yield part
        finally:
            part.unlink(missing_ok=True)

    def delete(self, names: set[str]) -> None:
        """Delete these files, as far as they are there, and what killed processes left on this machine."""
        with self._failure_named():
            system, root = self._opened()
            for path in (f"{root}/{name}" for name in names):
                with suppress(FileNotFoundError):
                    within(LIMIT, partial(system.rm_file, path))
        shutil.rmtree(self.folder, ignore_errors=True)

    def clear(self) -> None:
        """Delete every file."""
        self.delete(set(self.names()))

    def _find(self) -> list[str]:
        system, root = self._opened()
        return [path.removeprefix(f"{root}/") for path in system.find(root)]

    def _opened(self) -> tuple[Any, str]:
        """The file system, which has forgotten what it had listed, and the path of `url` there."""
        import fsspec  # here, for the few runs whose checkpoints lie in a bucket

        if self.url.startswith(("gs://", "gcs://")):
            import aiohttp

            quiet_gcsfs()
            timeout = aiohttp.ClientTimeout(total=None, **_TIMEOUT)
            system, root = fsspec.core.url_to_fs(self.url, requests_timeout=timeout)
        else:
            system, root = fsspec.core.url_to_fs(self.url)
        system.invalidate_cache()
        return system, root

    @contextmanager
    def _failure_named(self) -> Iterator[None]:
        """File systems raise what they like: all of it becomes one sentence."""
        try:
            yield
        except FacerepError:
            raise
        except Exception as error:
            raise FacerepError(
                f"{self.url}: the checkpoints cannot be kept there: {why(error)}; check bucket, credentials and "
                "network, or name a folder in the environment variable FACEREP_SCRATCH."
            ) from error
