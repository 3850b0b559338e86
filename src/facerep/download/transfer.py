"""One URL into one file, through fsspec; a broken transfer goes on from the bytes that are there, in a later run too."""

import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import fsspec

from facerep.core.files import disk_full_named, write_json

Tick = Callable[[int, int | None], None]  # (bytes so far, bytes in all where known)

TRIES = 4  # without a new byte
PAUSE = 0.5  # seconds before the second try; doubles with each
_HTTP_CHUNK = 2**20
_RANGE = 16 * 2**20  # bytes of one range read where a URL is no http
_LATER = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}


class TransferError(Exception):
    """Why a transfer failed, and whether another try may help."""

    def __init__(self, why: str, *, again: bool):
        super().__init__(why)
        self.again = again


@dataclass
class _Stream:
    """A URL opened for reading."""

    start: int  # where its bytes begin: the offset asked for, or 0 where the far side begins anew
    size: int | None  # of the whole
    version: str | None  # changes when the content does; None where the far side tells nothing
    chunks: Iterator[bytes]


def fetch(url: str, part: Path, tick: Tick) -> None:
    """Bring the whole of `url` into the file `part`, going on from what an earlier call left there.

    `url` is anything fsspec opens, a local path included. Beside `part` a `.json` remembers URL, size and version
    (ETag or the like): when they no longer fit, the transfer starts over. Transient failures are tried again.
    Raises TransferError when that does not help; what came stays in `part`. Raises FacerepError when the disk is full.
    """
    most, tries = 0, 0
    while True:
        try:
            return _fetch_once(url, part, tick)
        except TransferError as error:
            length = part.stat().st_size if part.exists() else 0
            tries = 1 if length > most else tries + 1
            most = max(most, length)
            if not error.again or tries >= TRIES:
                raise
        time.sleep(PAUSE * 2 ** (tries - 1))


def is_whole(part: Path) -> bool:
    """Whether `part` has every byte that the far side announced when it was last asked."""
    known = _known(part)
    return part.exists() and known.get("size") == part.stat().st_size


def forget(part: Path) -> None:
    """Delete `part` and what is known of it."""
    for file in (part, _beside(part)):
        file.unlink(missing_ok=True)


def _fetch_once(url: str, part: Path, tick: Tick) -> None:
    known = _known(part)
    there = part.stat().st_size if part.exists() and known.get("url") == url else 0
    opener = _open_http if urlsplit(url).scheme in ("http", "https") else _open_other
    stream = opener(url, there, known.get("version"))
    told = {"url": url, "size": stream.size, "version": stream.version}
    if known != told:
        if stream.start > 0:  # the rest of another file than the one that was begun
            forget(part)
            raise TransferError("it changed while it was downloaded", again=True)
        write_json(_beside(part), told)
    with disk_full_named(part), part.open("ab") as file:
        file.truncate(stream.start)
        done = stream.start
        tick(done, stream.size)
        for chunk in stream.chunks:
            file.write(chunk)
            done += len(chunk)
            tick(done, stream.size)
    if stream.size is not None and done != stream.size:
        if done > stream.size:
            forget(part)
        raise TransferError(f"it ended after {done:,} of {stream.size:,} bytes", again=True)


def _open_http(url: str, offset: int, version: str | None) -> _Stream:
    """One request for all that is missing. With If-Range a file that changed comes whole instead of its rest."""
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if version:
            headers["If-Range"] = version
    try:
        # A size of 1 with blocks of 0 makes fsspec stream right away, without asking for the size first.
        file = _http().open(url, block_size=0, size=1, headers=headers)
    except aiohttp.ClientResponseError as error:
        if error.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and offset:
            if _content_range(error.headers)[1] == offset:  # nothing was missing
                return _Stream(offset, offset, version, iter(()))
            return _open_http(url, 0, None)
        raise _broken(error) from error
    except Exception as error:
        raise _broken(error) from error
    headers, now = file.r.headers, _http_version(file.r.headers)
    if file.r.status == HTTPStatus.PARTIAL_CONTENT:
        start, size = _content_range(headers)
        if start != offset or (version and now and now != version):  # a server that does not know If-Range
            file.close()
            return _open_http(url, 0, None)
        return _Stream(offset, size, version, _chunks(file, _HTTP_CHUNK))
    size = int(headers["Content-Length"]) if "Content-Length" in headers else None
    return _Stream(0, size, now, _chunks(file, _HTTP_CHUNK))


def _http() -> Any:
    return fsspec.filesystem(
        "https",
        client_kwargs={
            "timeout": aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60),  # aiohttp's own: 5 min in all
            "auto_decompress": False,  # a .tar.gz served as "Content-Encoding: gzip" is wanted as it is
            "trust_env": True,  # HTTPS_PROXY and the like
            "read_bufsize": _HTTP_CHUNK,
        },
    )


def _http_version(headers: Any) -> str | None:
    """What If-Range accepts: a strong ETag, else the time of change."""
    etag = headers.get("ETag", "")
    return etag if etag.startswith('"') else headers.get("Last-Modified")


def _content_range(headers: Any) -> tuple[int, int | None]:
    """First byte and size of the whole, of `bytes 5-9/10` or `bytes */10`; -1 and None for what is not told."""
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", (headers or {}).get("Content-Range", ""))
    if not found:
        return -1, None
    return int(found[1] or -1), None if found[2] == "*" else int(found[2])


def _open_other(url: str, offset: int, version: str | None) -> _Stream:
    """Range reads, as every file system of fsspec's offers them.

    An opening that fails is not tried again here: gcsfs and huggingface_hub have by then tried for half a minute.
    """
    logging.getLogger("gcsfs").addHandler(logging.NullHandler())  # else it prints a traceback for each of its own tries
    try:
        system, path = fsspec.core.url_to_fs(url)
        system.invalidate_cache()
        info = system.info(path)
        if info["type"] == "directory":
            raise IsADirectoryError("it is a folder")
        size, now = info["size"], _other_version(info)
        start = offset if now == version and size is not None and offset <= size else 0
        file = system.open(path, "rb", block_size=_RANGE, cache_type="none")
        file.seek(start)
    except Exception as error:
        raise TransferError(str(_broken(error)), again=False) from error
    return _Stream(start, size, now, _chunks(file, _RANGE, None if size is None else size - start))


def _other_version(info: dict[str, Any]) -> str | None:
    keys = ("etag", "ETag", "md5Hash", "generation", "xet_hash", "blob_id", "mtime", "created")
    return next((f"{key} {info[key]}" for key in keys if info.get(key)), None)


def _chunks(file: Any, length: int, left: int | None = None) -> Iterator[bytes]:
    """Read on to the end, and never ask beyond it where `left` tells it: gcsfs takes that ill."""
    try:
        while chunk := file.read(length if left is None else min(length, left)):
            yield chunk
            left = None if left is None else left - len(chunk)
    except Exception as error:
        raise _broken(error) from error
    finally:
        file.close()


def _broken(error: Exception) -> TransferError:
    """Why, in one line. File systems raise what they like; only what is known to be for good is not tried again."""
    status = _status(error)
    if isinstance(error, FileNotFoundError) or status == HTTPStatus.NOT_FOUND:
        return TransferError("there is nothing at this URL", again=False)
    if isinstance(error, PermissionError) or status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return TransferError("access was refused", again=False)
    for_good = isinstance(error, ValueError | ImportError | IsADirectoryError)
    for_good = for_good or (400 <= status < 500 and status not in _LATER)
    return TransferError(one_line(error), again=not for_good)


def one_line(error: Exception) -> str:
    """What an exception says, in at most 200 characters without a line break."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:199] + "…"


def _status(error: Exception) -> int:
    """The HTTP status where aiohttp, gcsfs and huggingface_hub keep it; 0 where there is none."""
    for holder, name in ((error, "status"), (getattr(error, "response", None), "status_code"), (error, "code")):
        if (value := str(getattr(holder, name, ""))).isdecimal():
            return int(value)
    return 0


def _beside(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _known(part: Path) -> dict[str, Any]:
    try:
        known = json.loads(_beside(part).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return known if isinstance(known, dict) else {}
