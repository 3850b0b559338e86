"""What the tests of downloads share: an empty repository and a web server on loopback."""

import hashlib
import http.server
import io
import re
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from facerep.core.errors import FacerepError
from facerep.download.stage import download, transfer
from facerep.params import Archive, Download

MIB = 2**20


def tar_of(size: int, seed: int = 0) -> bytes:
    """A tar with one member of `size` bytes that no two seeds share."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("lfw/Ann/Ann_0001.jpg")
        info.size = size
        data = hashlib.shake_256(str(seed).encode()).digest(size)
        tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Web:
    """A web server on loopback, with the manners that a test wants, and a book of what it served."""

    content: bytes
    ranges: bool = True
    if_range: bool = True  # honours If-Range
    etag: str | None = '"one"'
    sizes: bool = True  # sends Content-Length
    drops: list[int] = field(default_factory=list)  # bytes after which the next answers break off
    statuses: list[int] = field(default_factory=list)  # errors that the next requests get
    asked: list[str | None] = field(default_factory=list)  # the Range of each GET
    served: int = 0
    port: int = 0

    def url(self, name: str = "faces.tar") -> str:
        return f"http://127.0.0.1:{self.port}/sets/{name}"

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range")
        self.asked.append(asked)
        if self.statuses:
            handler.send_error(self.statuses.pop(0))
            return
        start = 0
        same = not self.if_range or handler.headers.get("If-Range") in (None, self.etag)
        if asked and self.ranges and same:
            found = re.fullmatch(r"bytes=(\d+)-", asked)
            assert found
            start = int(found[1])
            if start >= len(self.content):
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{len(self.content)}")
                handler.send_header("Content-Length", "0")
                handler.end_headers()
                return
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        else:
            handler.send_response(200)
        if self.etag:
            handler.send_header("ETag", self.etag)
        if self.sizes:
            handler.send_header("Content-Length", str(len(self.content) - start))
        handler.end_headers()
        stop = start + self.drops.pop(0) if self.drops else len(self.content)
        for at in range(start, min(stop, len(self.content)), 2**16):
            block = self.content[at : min(at + 2**16, stop)]
            handler.wfile.write(block)
            self.served += len(block)


@pytest.fixture
def serve() -> Iterator[Any]:
    servers = []

    def start(content: bytes, **manners: Any) -> Web:
        web = Web(content, **manners)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.answer(self)

            def log_message(self, *args: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        web.port = server.server_port
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return web

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty repository as working folder, no mirror, no proxy, and tries that follow at once."""
    root = tmp_path / "repository"
    (root / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(root)
    for name in (
        "FACEREP_MIRROR",
        "FACEREP_SCRATCH",
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(transfer, "PAUSE", 0.001)
    return root


def get(*urls: str, sha256: str | None = None, into: str = "data/raw") -> dict[str, Any]:
    return download(Download(archives=[Archive(url=url, sha256=sha256) for url in urls]), into)


def refusal(*urls: str, sha256: str | None = None) -> str:
    with pytest.raises(FacerepError) as caught:
        get(*urls, sha256=sha256)
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text
    return text


def raw() -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in Path("data/raw").iterdir()}


def raw_is_empty() -> bool:
    return not Path("data/raw").exists() or not any(Path("data/raw").iterdir())


def scratch() -> list[str]:
    return sorted(file.name for file in Path("scratch/download").rglob("*") if file.is_file() and file.name != ".lock")
