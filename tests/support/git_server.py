"""Git's own HTTP backend on loopback, as GitHub speaks: who has no token is told so."""

import base64
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@contextmanager
def git_server(root: Path, token: str) -> Iterator[str]:
    """The address above the bare repositories in `root`; they take pushes from whoever has the token."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # the names that http.server looks for
            body = self._body()
            right = base64.b64encode(f"x-access-token:{token}".encode()).decode()
            if self.headers.get("Authorization") != f"Basic {right}":
                self._answer(401, [("WWW-Authenticate", 'Basic realm="git"')], b"")
                return
            path, _, query = self.path.partition("?")
            environment = {
                "GIT_PROJECT_ROOT": str(root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "REMOTE_USER": "somebody",  # else it takes no push
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            }
            said = subprocess.run(
                ["git", "http-backend"], input=body, env=os.environ | environment, stdout=subprocess.PIPE, check=True
            ).stdout
            head, _, rest = said.partition(b"\r\n\r\n")
            headers = [(name, value) for name, _, value in (h.partition(": ") for h in head.decode().split("\r\n"))]
            status = next((int(value.split()[0]) for name, value in headers if name == "Status"), 200)
            self._answer(status, [header for header in headers if header[0] != "Status"], rest)

        do_POST = do_GET  # noqa: N815

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response(status)
            for header in [*headers, ("Content-Length", str(len(body)))]:
                self.send_header(*header)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
