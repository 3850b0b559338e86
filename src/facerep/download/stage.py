"""The archives of params.yaml into data/raw: found, brought, checked, and put there whole."""

import errno
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from facerep.archives.folder import write_folder_tar
from facerep.archives.members import PLAIN
from facerep.archives.reader import is_archive, what_else
from facerep.core.errors import FacerepError
from facerep.core.files import atomic, repository_root, sha256_of
from facerep.core.refusals import refusals_named
from facerep.download import gdrive, transfer
from facerep.params import Archive, Download
from facerep.resume.scratch import scratch_folder

MIRROR = "FACEREP_MIRROR"


class Source(NamedTuple):
    """What one entry of `download.archives` means."""

    url: str
    name: str  # of the file in data/raw
    scheme: str  # of the URL; "file" for a local path
    sha256: str | None
    path: Path | None  # a local file or folder, or the mirror's file; None where the network is asked


class _Brought(NamedTuple):
    source: Source
    file: Path  # in the scratch folder
    bytes: int
    sha256: str
    junk: dict[str, int]  # files of a folder that tools had put there, by kind
    empty: list[str]  # its folders without a file


@refusals_named()
def download(settings: Download, into: str | Path) -> dict[str, Any]:
    """Bring every archive of `settings` into the folder `into`, which afterwards holds these files and nothing else.

    A URL is one that fsspec opens (https, gs, hf, memory, file …), `gdrive://<id>`, `gdrive://<folder id>/<name>`,
    `synthetic://<name>?<options>`, a local file, or a local folder, which is packed as `<folder>.tar`, or as `name`, under
    that name. Relative paths count from the repository's root. In `into` a file is called `name`, or else as its URL
    ends. A file called as the URL ends, or else `name`, in the folder that the environment variable FACEREP_MIRROR
    names is taken before any network; sha256 still holds.

    Transfers wait in `scratch/download/` under the repository's root (the environment variable FACEREP_SCRATCH names
    another folder than `scratch`; a bucket there is for training alone), where DVC deletes nothing: a broken one goes on
    from there, and no archive is fetched twice because a later one failed.

    Returns the metrics: `files`, `bytes`, and `archives`, a list of `{name, bytes, sha256, scheme, passed_over}` in order
    (the last of a folder: files that tools had put there, by kind), and `notes`, sentences on what is worth a look.
    Raises FacerepError for a URL that fails, a sha256 that differs, a file that is no archive and no .csv or .txt,
    two files of one name, what may not be read or written, and a full disk.
    """
    root = repository_root()
    sources = [source_of(archive, root) for archive in settings.archives]
    _refuse_same_names([source.name for source in sources if not _is_whole_drive_folder(source)])
    scratch = scratch_folder() / "download"
    with _alone(scratch):
        brought = [file for source in sources for file in _bring(source, scratch)]
        _refuse_same_names([item.source.name for item in brought])
        _place(brought, Path(into))
    return {
        "files": len(brought),
        "bytes": sum(item.bytes for item in brought),
        "archives": [
            {
                "name": item.source.name,
                "bytes": item.bytes,
                "sha256": item.sha256,
                "scheme": item.source.scheme,
                "passed_over": item.junk,
            }
            for item in brought
        ],
        "notes": [note for item in brought for note in _notes(item)],
    }


def _notes(item: _Brought) -> Iterator[str]:
    empty = item.empty
    if empty:
        more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
        yield f"{item.source.name}: folders without a file in them: {', '.join(empty[:5])}{more}."


@refusals_named()
def source_of(archive: Archive, root: Path) -> Source:
    """What an entry of `download.archives` means; relative paths count from `root`, and FACEREP_MIRROR is looked into.

    Raises FacerepError for a local path that is not there or may not be read, and for a URL or path that gives no file name.
    """
    url = archive.url
    _refuse_windows_path(url)
    if "://" not in url or url.startswith("file://"):
        return _local_source(archive, root)
    scheme, rest = url.split("://", 1)
    path = urlsplit(url).path if scheme in ("http", "https") else rest.partition("?")[0]
    last = unquote(path).rpartition("/")[2]
    if scheme == "gdrive":
        file_id, in_folder = gdrive.parse(url)
        last = Path(in_folder).name if in_folder else file_id
    name = archive.name or last
    _refuse_name(url, name)
    return Source(url, name, scheme, archive.sha256, None if scheme == "synthetic" else _in_mirror(root, last, name))


def _local_source(archive: Archive, root: Path) -> Source:
    plain = unquote(archive.url.removeprefix("file://")) if "://" in archive.url else archive.url
    path = (root / Path(plain).expanduser()).resolve()
    name = archive.name or (path.name + ".tar" if path.is_dir() else path.name)
    _refuse_name(archive.url, name)
    found = path if path.exists() else _in_mirror(root, path.name, name)
    if found is None:
        raise FacerepError(
            f"{archive.url}: no such file or folder; correct download.archives, or name the folder that "
            f"holds {path.name} in the environment variable {MIRROR}."
        )
    return Source(archive.url, name, "file", archive.sha256, found)


def folder_name(source: Source) -> str:
    """Under which name a local folder is packed: that of its archive without the suffix."""
    return re.sub(r"\.tar(\.\w+)?$", "", source.name)


def _in_mirror(root: Path, *names: str) -> Path | None:
    """The first file of these names in the mirror; None where there is none, or no mirror."""
    value = os.environ.get(MIRROR)
    if not value:
        return None
    mirror = (root / Path(value).expanduser()).resolve()
    if not mirror.is_dir():
        raise FacerepError(f"{MIRROR}={value}: not a folder ({mirror}); correct the environment variable or unset it.")
    return next((mirror / name for name in names if name and (mirror / name).is_file()), None)


def _refuse_name(url: str, name: str) -> None:
    if not name or name.startswith(".") or "/" in name or "\\" in name or not name.isprintable():
        raise FacerepError(
            f"{url}: does not end in a file name; give one beside it in download.archives, as name: faces.tar.gz."
        )


def _refuse_windows_path(url: str) -> None:
    if re.match(r"[A-Za-z]:[\\/](?!/)", url):
        here = f"/mnt/{url[0].lower()}/{url[3:]}".replace("\\", "/")
        raise FacerepError(f"{url}: is a path of Windows; under WSL it is written {here} in download.archives.")


def _refuse_same_names(names: list[str]) -> None:
    double = next((name for name in names if names.count(name) > 1), None)
    if double:
        raise FacerepError(
            f"download.archives: two archives are called {double}; give one of them another by name: beside its url."
        )


def _is_whole_drive_folder(source: Source) -> bool:
    return source.scheme == "gdrive" and gdrive.parse(source.url)[1] is None


@contextmanager
def _alone(scratch: Path) -> Iterator[None]:
    """Experiments may run side by side, and their parts are the same files: one downloads, the others wait."""
    scratch.mkdir(parents=True, exist_ok=True)
    lock = FileLock(scratch / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print("Waiting for another run that is downloading.", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _bring(source: Source, scratch: Path) -> Iterator[_Brought]:
    """The source's file, whole and checked, in the scratch folder; of a Drive folder without a name, every file."""
    if source.scheme == "gdrive" and source.path is None:
        for one, file_id in _drive_files(source):
            file = _scratch_file(f"gdrive://{file_id}", one.name, scratch)
            if not file.exists():  # gdown keeps what is not whole under a name of its own
                with _bar(one.name) as tick, _failure_named(one):
                    gdrive.fetch(file_id, file, tick)
            yield _checked(one, file)
        return
    file = _scratch_file(source.url, source.name, scratch)
    junk: dict[str, int] = {}
    empty: list[str] = []
    if source.scheme == "synthetic":
        from facerep.synthetic import archive  # it draws: needs more than a download does

        archive.write_archive(file, **archive.parse_url(source.url))
    elif source.path is not None and source.path.is_dir():
        _, junk, empty = write_folder_tar(source.path, file, folder_name(source))
    else:
        file = file.with_name(file.name + ".part")
        if not _is_there(source, file):
            with _bar(source.name) as tick, _failure_named(source):
                transfer.fetch(str(source.path or source.url), file, tick)
    yield _checked(source, file)._replace(junk=junk, empty=empty)


def _drive_files(source: Source) -> list[tuple[Source, str]]:
    file_id, name = gdrive.parse(source.url)
    with _failure_named(source):
        files = gdrive.list_folder(file_id)
    if name is not None:
        return [(source, gdrive.choose(source.url, files, name).id)]
    if len(files) > 1 and source.sha256:
        raise FacerepError(
            f"{source.url}: a folder of {len(files)} files has no one sha256; list each as {source.url}/<file name>."
        )
    named = [(source._replace(name=Path(file.path).name), file.id) for file in files]
    for one, _ in named:
        _refuse_name(source.url, one.name)
    return named or [(source, file_id)]


def _scratch_file(url: str, name: str, scratch: Path) -> Path:
    """A file in a folder of its own, which is the same in the next run."""
    folder = scratch / hashlib.sha256(f"{url}#{name}".encode()).hexdigest()[:16]
    folder.mkdir(exist_ok=True)
    return folder / name


def _is_there(source: Source, file: Path) -> bool:
    """A whole file of an earlier run that stopped at another archive needs no network, where its sha256 is known."""
    return source.sha256 is not None and transfer.is_whole(file) and sha256_of(file) == source.sha256


def _checked(source: Source, file: Path) -> _Brought:
    """Measure the file. Raises FacerepError and throws it away when it is not what it should be."""
    digest = sha256_of(file)
    found_in = f" ({source.path})" if source.path else ""
    why = None
    if source.sha256 not in (None, digest):
        mend = f"replace {source.path}" if source.path else "what came was thrown away: run again"
        why = (
            f"sha256 is {digest}, expected {source.sha256}; {mend}, "
            "or correct sha256 in params.yaml if the archive was published anew"
        )
    elif not source.name.lower().endswith(PLAIN) and not is_archive(file, source.name):
        why = f"what came is {what_else(file, source.name)}"
    if why:
        shutil.rmtree(file.parent)
        raise FacerepError(f"{source.name} from {source.url}{found_in}: {why}.")
    return _Brought(source, file, file.stat().st_size, digest, {}, [])


def _place(brought: list[_Brought], into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    names = {item.source.name for item in brought}
    for old in into.iterdir():
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        elif old.name not in names:
            old.unlink()
    for item in brought:
        try:
            item.file.replace(into / item.source.name)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with atomic(into / item.source.name) as part:
                shutil.copyfile(item.file, part)
        shutil.rmtree(item.file.parent)


@contextmanager
def _failure_named(source: Source) -> Iterator[None]:
    try:
        yield
    except transfer.TransferError as error:
        if source.path is not None:
            raise FacerepError(f"{source.path}: could not be read: {error}; check the file.") from error
        raise FacerepError(
            f"{source.url}: could not be downloaded: {error}; check URL, network and access and run again, or put "
            f"{source.name} into a folder and name that in the environment variable {MIRROR}."
        ) from error


@contextmanager
def _bar(name: str) -> Iterator[transfer.Tick]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(file=sys.stderr)) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, size: progress.update(task, completed=done, total=size)
