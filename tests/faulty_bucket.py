"""A real Google Cloud Storage server that keeps its objects over a restart, behind a proxy that misbehaves on request."""

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.gcs import create_bucket, server_binary

BUSY = b"HTTP/1.1 %d Busy\r\nContent-Type: text/plain\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Bucket:
    """The server `facerep` behind the proxy at `address`; `fault` is what the proxy does to connections made from now on.

    None: passes all on; "drop": breaks off after 100 kB to the server; "stall": says nothing; 429, 503: answers that.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.proxy_port = free_port(), free_port()
        self.address = f"http://127.0.0.1:{self.proxy_port}"
        self.fault: str | int | None = None
        self.faulted = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", self.proxy_port), backlog=64)
        threading.Thread(target=self._accept, daemon=True).start()
        self._server: subprocess.Popen[bytes] | None = None
        self.start()
        create_bucket(f"http://127.0.0.1:{self.port}", "facerep")

    def start(self) -> None:
        options = ("-scheme", "http", "-host", "127.0.0.1", "-port", str(self.port), "-external-url", self.address)
        backend = ("-backend", "filesystem", "-filesystem-root", str(self.folder))
        self._server = subprocess.Popen(
            [server_binary(), *options, *backend], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(200):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            threading.Event().wait(0.05)
        raise RuntimeError("fake-gcs-server did not come up")

    def kill(self) -> None:
        assert self._server is not None
        self._server.kill()
        self._server.wait()

    def objects(self) -> dict[str, Path]:
        """The files behind the objects, by their names in the bucket."""
        root = self.folder / "facerep"
        return {str(path.relative_to(root)): path for path in sorted(root.rglob("*")) if path.is_file()}

    def close(self) -> None:
        self._listener.close()
        self.kill()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            fault = self.fault
            if fault is not None:
                self.faulted.set()
            if fault == "stall":
                while client.recv(65536):
                    pass
                return
            if isinstance(fault, int):
                client.recv(65536)
                client.sendall(BUSY % fault)
                return
            with socket.create_connection(("127.0.0.1", self.port)) as server:
                back = threading.Thread(target=_copy, args=(server, client, None), daemon=True)
                back.start()
                _copy(client, server, 100_000 if fault == "drop" else None)
                back.join(30 if fault is None else 0)


def _copy(source: socket.socket, target: socket.socket, limit: int | None) -> None:
    """Pass bytes on until the end, or until the limit is passed."""
    passed = 0
    with suppress(OSError):
        while data := source.recv(65536):
            passed += len(data)
            if limit is not None and passed > limit:
                break
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    if limit is not None and passed > limit:
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@contextmanager
def faulty_bucket(folder: Path) -> Iterator[Bucket]:
    bucket = Bucket(folder)
    try:
        yield bucket
    finally:
        bucket.close()
