"""No credentials, wrong ones, expired ones, and a bucket that is not ours: sentences that say what to do."""

import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from facerep.core.buckets import ask_remote
from facerep.core.errors import FacerepError
from tests.support.faulty_bucket import ANONYMOUS, EXPIRED, Bucket, faulty_bucket
from tests.support.remotes import assert_all_there, assert_sentence, point_at, remote, repository

REVOKED = {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}


@contextmanager
def google(status: int, answer: dict[str, Any]) -> Iterator[str]:
    """The service that gives tokens for credentials, or refuses; its address."""

    class Tokens(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tokens) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/token"
        server.shutdown()


@contextmanager
def silent() -> Iterator[str]:
    """HOST:PORT that takes connections and says nothing, as a dead address behind a firewall does."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="module")
def key() -> str:
    made = rsa.generate_private_key(65537, 2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made.private_bytes(*form).decode()


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Bucket]:
    (tmp_path / "bucket").mkdir()
    with faulty_bucket(tmp_path / "bucket") as running:
        yield running


def service_account(path: Path, key: str, token_uri: str) -> Path:
    about = {"type": "service_account", "client_email": "a@b.c", "private_key": key, "token_uri": token_uri}
    path.write_text(json.dumps(about))
    return path


def asked(bucket: Bucket, within: float = 30, **settings: Any) -> str:
    """What is said of a remote with these settings; "" when nothing is wrong."""
    start = time.monotonic()
    try:
        ask_remote("gs://facerep/dvc", {"endpointurl": bucket.address, **settings})
    except FacerepError as error:
        return str(error)
    finally:
        assert time.monotonic() - start < within
    return ""


def test_credentials_that_have_expired(bucket: Bucket, tmp_path: Path, key: str) -> None:
    """The file is good, the token behind it is not given any more; with one that is, all is well."""
    with google(400, REVOKED) as tokens:
        file = service_account(tmp_path / "key.json", key, tokens)
        said = asked(bucket, credentialpath=str(file))
    words = "no credentials that hold, or they have expired (invalid_grant: Token has been expired or revoked.)"
    assert said.startswith(f"gs://facerep/dvc: {words}; replace the file {file} and run the same command again")
    with google(200, {"access_token": "good", "expires_in": 3600, "token_type": "Bearer"}) as tokens:
        assert asked(bucket, credentialpath=str(service_account(file, key, tokens))) == ""


@pytest.mark.parametrize(
    ("status", "said", "words"),
    [
        (401, EXPIRED, f"no credentials that hold, or they have expired ({EXPIRED}, 401); run `gcloud auth "),
        (401, ANONYMOUS, f"no credentials that hold, or they have expired ({ANONYMOUS}, 401); run `gcloud auth "),
        (403, "a@b.c does not have access", "may not read the bucket; ask for the role Storage Object User on facerep"),
        (404, "", "there is no bucket facerep at http://127.0.0.1"),
    ],
)
def test_a_bucket_that_refuses(
    status: int, said: str, words: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    bucket.fault, bucket.said = status, said
    answer = asked(bucket, allow_anonymous_login=True)
    assert words in answer and answer.endswith(".")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "the credentials file {} is not there; correct credentialpath with `dvc remote modify`."),
        ("{}", "the credentials file {} holds no credentials of Google's; correct credentialpath with"),
        ("no JSON", "the credentials file {} holds no credentials of Google's; correct credentialpath with"),
    ],
)
def test_a_file_that_is_none_of_credentials(content: str | None, words: str, bucket: Bucket, tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    if content is not None:
        file.write_text(content)
    assert words.format(file) in asked(bucket, credentialpath=str(file))


def nobody(home: Path, metadata: str) -> dict[str, str]:
    """The environment of a user without credentials, on a machine whose metadata server is at this address."""
    home.mkdir()
    hosts = dict.fromkeys(("GCE_METADATA_HOST", "GCE_METADATA_IP", "GCE_METADATA_ROOT"), metadata)
    return {"HOME": str(home), "CLOUDSDK_CONFIG": str(home), **hosts}


@pytest.fixture
def repo(tmp_path: Path, bucket: Bucket) -> Path:
    repo = repository(tmp_path / "repo", files=1)
    point_at(repo, bucket, anonymous=False)
    return repo


@pytest.mark.slow
def test_no_credentials_at_all(repo: Path, bucket: Bucket, tmp_path: Path) -> None:
    """Google answers who says nothing of himself with 401; and where a firewall swallows all, none are found."""
    bucket.fault, bucket.said = 401, ANONYMOUS
    environment = nobody(tmp_path / "home", "127.0.0.1:1")
    for command in ("push", "pull"):
        assert_sentence(
            remote(repo, command, env=environment), ANONYMOUS, "run `gcloud auth application-default login`"
        )
    with silent() as address:
        answer = remote(repo, "push", env=nobody(tmp_path / "other", address))
    assert_sentence(answer, "gs://facerep/dvc: no credentials are found; run `gcloud auth application-default login`")
    bucket.mend()
    point_at(repo, bucket)
    assert_all_there(repo, bucket, tmp_path / "clone")


@pytest.mark.slow
def test_expired_credentials_of_a_whole_command(repo: Path, bucket: Bucket, tmp_path: Path, key: str) -> None:
    with google(400, REVOKED) as tokens:
        file = service_account(tmp_path / "key.json", key, tokens)
        point_at(repo, bucket, anonymous=False, credentialpath=str(file))
        for command in ("push", "fetch"):
            assert_sentence(remote(repo, command), "Token has been expired or revoked.", f"replace the file {file}")
    assert not bucket.objects()
    with google(200, {"access_token": "good", "expires_in": 3600, "token_type": "Bearer"}) as tokens:
        service_account(file, key, tokens)
        assert remote(repo, "push")[0] == 0
    point_at(repo, bucket)
    assert_all_there(repo, bucket, tmp_path / "clone")
