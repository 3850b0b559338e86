"""A real Google Cloud Storage server that keeps its objects over a restart, behind a proxy that misbehaves on request."""

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.gcs import create_bucket, server_binary

REFUSAL = "HTTP/1.1 {} Refused\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}"
ANONYMOUS = "Anonymous caller does not have storage.objects.list access to the Google Cloud Storage bucket."
EXPIRED = "Invalid Credentials"  # what Google says of a token that was good once


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def refusal(status: int, said: str = "busy") -> bytes:
    """An answer with Google's own form of an error for 401 and 403, and plain text for what a load balancer says."""
    body = json.dumps({"error": {"code": status, "message": said}}) if status in (401, 403) else said
    kind = "application/json" if status in (401, 403) else "text/plain"
    return REFUSAL.format(status, kind, len(body), body).encode()


class Bucket:
    """The server `facerep` behind the proxy at `address`, which does `fault` to every connection.

    None: passes all on; "drop": breaks off after 100 kB in either direction; "stall": says nothing more; a number: answers
    with that status, and with `said`; "read only": answers 403 to whoever writes. `rate`: bytes a second of a connection.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.proxy_port = free_port(), free_port()
        self.address = f"http://127.0.0.1:{self.proxy_port}"
        self.fault: str | int | None = None
        self.said = "busy"
        self.rate: float | None = None
        self.faulted = threading.Event()
        self._armed: tuple[str | int, int] | None = None
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", self.proxy_port), backlog=64)
        threading.Thread(target=self._accept, daemon=True).start()
        self._server: subprocess.Popen[bytes] | None = None
        self.start()
        if not (folder / "facerep").exists():
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

    def arm(self, fault: str | int, after: int) -> None:
        """Let the fault, or "kill", strike when so many more bytes have passed, connections under way too."""
        self._armed = (fault, after)

    def mend(self) -> None:
        """All is well again."""
        self.fault = None
        assert self._server is not None
        if self._server.poll() is not None:
            self.start()

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
            if self.fault is not None:
                self.faulted.set()
            if self.fault == "stall":
                while client.recv(65536):
                    pass
                return
            if isinstance(self.fault, int):
                client.recv(65536)
                client.sendall(refusal(self.fault, self.said))
                return
            with socket.create_connection(("127.0.0.1", self.port)) as server:
                self._connections |= {client, server}
                back = threading.Thread(target=self._copy, args=(server, client), daemon=True)
                back.start()
                self._copy(client, server)
                back.join(30 if self.fault is None else 0)
                self._connections -= {client, server}

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        """Pass bytes on until the end, or until the fault strikes."""
        passed = 0
        with suppress(OSError):
            while data := source.recv(65536):
                passed += len(data)
                self._count(len(data))
                while self.fault == "stall":
                    threading.Event().wait(0.05)
                if self.fault == "drop" and passed > 100_000:
                    _break_off(source, target)
                    return
                if self.fault == "read only" and data.startswith((b"POST", b"PUT")):
                    source.sendall(refusal(403, self.said))
                    _break_off(source, target)
                    return
                target.sendall(data)
                if self.rate is not None:
                    threading.Event().wait(len(data) / self.rate)
            target.shutdown(socket.SHUT_WR)

    def _count(self, passed: int) -> None:
        with self._lock:
            if self._armed is None:
                return
            fault, left = self._armed
            self._armed = (fault, left - passed) if left > passed else None
            if self._armed is not None:
                return
        self.faulted.set()
        if fault == "kill":
            self.kill()
            return
        self.fault = fault
        if isinstance(fault, int):  # connections are kept alive: a new one meets the refusal
            _break_off(*self._connections)


def _break_off(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@contextmanager
def faulty_bucket(folder: Path) -> Iterator[Bucket]:
    bucket = Bucket(folder)
    try:
        yield bucket
    finally:
        bucket.close()
