"""crop on many photographs: how few it decodes, what a kill leaves, and a Dask cluster in the place of processes."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import psutil
import pytest

from facerep.core.errors import FacerepError
from facerep.crop.cluster import why_lost
from facerep.crop.cut import Photograph
from facerep.crop.parts import Cropped
from facerep.crop.stage import crop
from facerep.faces.shards import read_index
from facerep.resume.unfinished import discard_finished
from tests.support.paths import ROOT
from tests.support.pictures import archive, contents, encoded, picture, settings

pytestmark = pytest.mark.usefixtures("own_scratch")
CENTER: dict[str, Any] = {"method": "center", "max_unreadable": 0.05}
KILLS = 20


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 photographs of 20 identities, one in a hundred broken."""
    members = {f"train/n{i % 20:02d}/{i:04d}.jpg": encoded(picture(i), "JPEG", quality=90) for i in range(600)}
    for i in range(50, 600, 100):
        members[f"train/n{i % 20:02d}/{i:04d}.jpg"] = b"broken"
    return archive(tmp_path_factory.mktemp("raw") / "crowd.tar", members)


@pytest.fixture(scope="module")
def undisturbed(crowd: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, dict[str, bytes]]:
    """The metrics and the files of a crop that nothing stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEREP_SCRATCH", str(tmp_path_factory.mktemp("scratch")))
        out = tmp_path_factory.mktemp("undisturbed") / "faces"
        return crop(settings(**CENTER), [crowd], out, workers=2), contents(out)


def test_at_most_so_many_of_an_identity_are_cut_and_always_the_same(tmp_path: Path, crowd: Path) -> None:
    metrics = crop(settings(**CENTER, oversample=1.2), [crowd], tmp_path / "a", per_identity=10, workers=2)
    assert metrics["photographs"] == 600
    assert metrics["not_needed"] == 600 - 20 * 12
    keys = read_index(tmp_path / "a" / "index.parquet")["key"].to_pylist()
    with tarfile.open(crowd) as tar:
        names = [name.removesuffix(".jpg") for name in tar.getnames()]
    expected = set()  # the twelve of each identity with the smallest hashes, by sorting all
    for identity in sorted({name.split("/")[1] for name in names}):
        own = [name for name in names if name.split("/")[1] == identity]
        expected |= set(sorted(own, key=lambda name: blake2b(name.encode(), digest_size=8).digest())[:12])
    broken = {f"train/n{i % 20:02d}/{i:04d}" for i in range(50, 600, 100)}
    assert keys == [name for name in names if name in expected - broken]
    fewer = crop(settings(**CENTER, oversample=1.2), [crowd], tmp_path / "b", per_identity=5, workers=2)
    assert max(Counter(key.split("/")[1] for key in keys).values()) == 12
    assert set(read_index(tmp_path / "b" / "index.parquet")["key"].to_pylist()) <= set(keys)
    assert fewer["not_needed"] == 600 - 20 * 6
    assert crop(settings(**CENTER, oversample=None), [crowd], tmp_path / "c", per_identity=5)["not_needed"] == 0


def test_what_is_no_photograph_is_counted(tmp_path: Path) -> None:
    members = {
        "lfw/A/1.png": encoded(picture(1)),
        "lfw/A/2.heic": b"",
        "lfw/B/3.HEIC": b"",
        "README": b"",
        "4.png": b"",
        "lfw/scan.000001": b"",
        "lfw/scan.000002": b"",
    }
    metrics = crop(settings(method="center"), [archive(tmp_path / "a.tar", members)], tmp_path / "out", workers=1)
    rows = [(row["kind"], row["folder"], row["files"]) for row in metrics["passed_over"]]
    assert rows == [
        ("other suffixes", "lfw", 2),
        (".heic", "lfw/A", 1),
        (".heic", "lfw/B", 1),
        (".png", ".", 1),
        ("no suffix", ".", 1),
    ]
    assert metrics["notes"] == [
        "Beside the classes, 1 folder gave no photograph: lfw/B (1 in .heic (HEIC)). By their suffix JPEG, PNG, WebP, TIFF, "
        "BMP, GIF and PPM are read; convert or rename the others.",
        "1 photograph in no class folder: passed over (1 in no folder). No class can be called train or test; rename the "
        "folder, or move them into class folders.",
        "1 file in .heic (HEIC): passed over; convert photographs to JPEG or PNG.",
    ]


CUT = """
import sys
from pathlib import Path
from facerep.crop.stage import crop
from tests.support.pictures import settings
crop(settings(method="center", max_unreadable=0.05), [Path(sys.argv[1])], Path(sys.argv[2]), workers=2)
"""


def kill_all(process: "subprocess.Popen[bytes]") -> None:
    """kill -9 of a process and all its children."""
    family = psutil.Process(process.pid).children(recursive=True)
    for one in (process, *family):
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()


@pytest.mark.parametrize("kills", [3, pytest.param(KILLS, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_killed_at_any_moment_it_ends_with_the_same_bytes(
    kills: int, crowd: Path, undisturbed: tuple[dict, dict[str, bytes]], own_scratch: Path, tmp_path: Path
) -> None:
    out, chance = tmp_path / "faces", random.Random(kills)
    command = [sys.executable, "-c", CUT, str(crowd), str(out)]
    notes: list[int] = []
    for _ in range(kills):
        before = len(list(own_scratch.glob("crop-*/*.json")))
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            # a kill at random between the first new shard and the end, or before it
            until = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < until:
                if len(list(own_scratch.glob("crop-*/*.json"))) > before + chance.randrange(3):
                    break
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.05))
            kill_all(process)
        notes.append(len(list(own_scratch.glob("crop-*/*.json"))))
    assert notes == sorted(notes) and notes[0] > 0, "each run goes on where the one before it was killed"
    metrics = crop(settings(**CENTER), [crowd], out, workers=1)
    assert (metrics, contents(out)) == undisturbed


def test_a_shard_that_was_finished_is_not_cut_again(
    crowd: Path, undisturbed: tuple[dict, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the end, too, until what runs after it has taken the rest away."""
    assert crop(settings(**CENTER), [crowd], tmp_path / "a", workers=2) == undisturbed[0]
    with monkeypatch.context() as patch:
        patch.setattr("facerep.crop.stage.cut_all", None)
        assert crop(settings(**CENTER), [crowd], tmp_path / "b") == undisturbed[0]
    assert contents(tmp_path / "b") == undisturbed[1]
    discard_finished("crop")
    monkeypatch.setattr("facerep.crop.stage.cut_all", None)
    with pytest.raises(TypeError):
        crop(settings(**CENTER), [crowd], tmp_path / "c")


def test_other_settings_or_another_archive_start_afresh(crowd: Path, tmp_path: Path, own_scratch: Path) -> None:
    crop(settings(**CENTER), [crowd], tmp_path / "a", workers=2)
    crop(settings(**CENTER, size=16), [crowd], tmp_path / "b", workers=2)
    crop(settings(**CENTER, max_megapixels=2), [crowd], tmp_path / "c", workers=2)
    os.utime(crowd)
    crop(settings(**CENTER), [crowd], tmp_path / "d", workers=2)
    assert len(list(own_scratch.glob("crop-*/"))) == 3, (
        "a copy of the archive, as an experiment has it, is the same archive"
    )
    with crowd.open("ab") as file:
        file.write(bytes(512))
    crop(settings(**CENTER), [crowd], tmp_path / "e", workers=2)
    assert len(list(own_scratch.glob("crop-*/"))) == 4


def test_the_workers_run_the_code_of_this_copy(crowd: Path, tmp_path: Path) -> None:
    """As in an experiment's copy of the repository: not the code of the installed package."""
    shutil.copytree(
        ROOT / "src" / "facerep", tmp_path / "src" / "facerep", ignore=shutil.ignore_patterns("__pycache__")
    )
    cut = tmp_path / "src" / "facerep" / "crop" / "cut.py"
    cut.write_text(cut.read_text() + "\n\ndef sharpness(face):\n    return 12345.0\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'src')!r}); sys.path.append({str(ROOT)!r})\n"
        "from pathlib import Path; from facerep.crop.stage import crop; from tests.support.pictures import settings\n"
        f"crop(settings(method='center', max_unreadable=0.05), [Path({str(crowd)!r})], Path('out'), workers=1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(read_index(tmp_path / "out" / "index.parquet")["sharpness"].to_pylist()) == {12345.0}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list["subprocess.Popen[bytes]"]]]:
    """A real Dask scheduler and two workers of one process each, on loopback: its address and the workers."""
    pytest.importorskip("distributed")
    dask = str(Path(sys.executable).with_name("dask"))
    file = tmp_path / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    with subprocess.Popen(
        [dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)],
        **quiet,
    ) as scheduler:  # type: ignore[call-overload]
        try:
            until = time.monotonic() + 60
            while not file.is_file() or not file.read_text():
                assert time.monotonic() < until, "the scheduler does not start"
                time.sleep(0.1)
            address = json.loads(file.read_text())["address"]
            options = ("--nthreads", "1", "--no-nanny", "--no-dashboard")
            workers = [
                subprocess.Popen(
                    [
                        dask,
                        "worker",
                        address,
                        *options,
                        "--local-directory",
                        str(tmp_path),
                    ],
                    **quiet,  # type: ignore[call-overload]
                )
                for _ in range(2)
            ]
            try:
                from distributed import Client

                with Client(address, set_as_default=False) as client:
                    client.wait_for_workers(2, timeout=60)
                yield address, workers
            finally:
                for worker in workers:
                    worker.kill()
                    worker.wait()
        finally:
            scheduler.kill()


def test_a_dask_cluster_cuts_the_same_bytes(
    cluster: tuple[str, list], crowd: Path, undisturbed: tuple[dict, dict[str, bytes]], tmp_path: Path
) -> None:
    metrics = crop(settings(**CENTER, executor=cluster[0]), [crowd], tmp_path / "faces")
    assert (metrics, contents(tmp_path / "faces")) == undisturbed


def test_a_dask_cluster_that_loses_a_worker_cuts_the_same_bytes(
    cluster: tuple[str, list],
    crowd: Path,
    undisturbed: tuple[dict, dict[str, bytes]],
    own_scratch: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, workers = cluster
    commit = Cropped.commit

    def and_kill(self: Cropped, *shard: object) -> None:
        commit(self, *shard)  # type: ignore[arg-type]
        if workers[0].poll() is None and len(self.notes) >= 2:
            workers[0].send_signal(signal.SIGKILL)

    monkeypatch.setattr(Cropped, "commit", and_kill)
    metrics = crop(settings(**CENTER, executor=address), [crowd], tmp_path / "faces")
    assert workers[0].wait(10) == -signal.SIGKILL and workers[1].poll() is None
    assert (metrics, contents(tmp_path / "faces")) == undisturbed


def test_no_cluster_is_a_sentence(crowd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("facerep.crop.cluster.PATIENCE", 1)
    with pytest.raises(FacerepError, match=r"crop.executor = tcp://127\.0\.0\.1:9: no Dask scheduler answers there"):
        crop(settings(**CENTER, executor="tcp://127.0.0.1:9"), [crowd], tmp_path / "faces")


def test_a_cluster_that_loses_photographs_is_a_sentence_that_names_them() -> None:
    distributed = pytest.importorskip("distributed")
    photos = [Photograph(f"train/n0/{n}", f"train/n0/{n}.jpg", b"", None) for n in range(3)]
    killed = distributed.KilledWorker("task", None, [])
    assert "gave up on train/n0/0.jpg and the 2 photographs after it (KilledWorker" in str(why_lost(photos, killed))
    assert "the Dask cluster went away" in str(why_lost(photos, CancelledError()))
    assert why_lost(photos, ValueError("of the cutting itself")) is None
