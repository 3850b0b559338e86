"""Does crop's memory stay flat and its time linear, and is select quick on an index of VGGFace2's size?

crop: archives of 10,000 to 300,000 photographs, 60 per identity, some hundreds of them drawn and given other names, each
cut by a fresh process to 64×64 with all of them as candidates, into shards of as many faces as VGGFace2's hold; seconds a
photograph, and the most memory that the process and its workers had together (proportional set size: shared pages are
counted once). The names alone are read from a tar.gz of the first of them, as VGGFace2's are. select: a made-up index of
548,000 faces (9,131 identities × 60) with hashes drawn bit by bit; and on the same index, in a repository where all has
run, `dvc status` and a `dvc repro` that has nothing to do.
"""

import gzip
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from itertools import cycle, islice, pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import psutil
from dvc.repo import Repo

from benchmarks.common import ROOT, arguments, conclude, number, preset, show
from benchmarks.data import draw_faces, write_tar
from facerep.archives.reader import read_members
from facerep.faces.shards import write_index
from facerep.select.stage import select

VGGFACE2_GB = 38  # of its archives
PER_IDENTITY = 60
CUT = """
import sys
from pathlib import Path
from facerep.crop.stage import crop
from facerep.presets import params_with
root = Path(sys.argv[1])
settings = params_with("vggface2", root / "params.yaml", root / "presets").crop
settings = settings.model_copy(update={"method": "center", "size": 64, "shard_mb": 32})
crop(settings, [Path(sys.argv[2])], Path(sys.argv[3]), per_identity=60, workers=int(sys.argv[4]))
"""


def main(given: list[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__, repeats=1, seconds=0)
    parser.add_argument("--photographs", type=int, nargs="+", default=[10_000, 100_000, 300_000])
    parser.add_argument("--distinct", type=int, default=200, help="of them are drawn (default: 200)")
    parser.add_argument("--index", type=int, default=9131 * PER_IDENTITY, help="rows (default: 547,860)")
    options = parser.parse_args(given)
    rows, found, megabytes = [], {}, 0.0
    with tempfile.TemporaryDirectory() as folder:
        drawn = draw_faces(options.distinct, 120)
        for count in options.photographs:
            path = write_tar(Path(folder) / "many.tar", islice(cycle(drawn), count), PER_IDENTITY)
            seconds, peak = _cropped(path, Path(folder), options.threads)
            found[count] = (seconds, peak)
            rows.append([f"crop, {count:,}", f"{seconds:,.0f}", number(1000 * seconds / count), f"{peak / 2**20:,.0f}"])
            if not megabytes:
                seconds, megabytes = _names_read(path)
                rows.append([f"names in a tar.gz, {count:,}", f"{seconds:.1f}", number(1000 * seconds / count), ""])
            path.unlink()
        repository = _repository(Path(folder) / "repository")
        selecting = _selected(repository / "data", options.index)
        rows.append([f"select, {options.index:,}", f"{selecting:.1f}", number(1000 * selecting / options.index), ""])
        waiting = _nothing_to_do(repository)
        rows += [[f"{line}, {options.index:,}", f"{seconds:.1f}", "", ""] for line, seconds in waiting.items()]
    show("crop and select at scale", ["photographs", "s", "ms each", "most memory, MiB"], rows)
    first, last = options.photographs[0], options.photographs[-1]
    more_each = [(found[b][0] - found[a][0]) / (b - a) for a, b in pairwise(options.photographs)]
    each = (found[last][0] - found[first][0]) / (last - first)  # the start is not in it
    more: dict[str, object] = {"names_mb_s": round(megabytes), "crop_ms_each": round(1000 * each, 3)}
    more |= {
        f"{line.replace(' ', '_')}_s": round(value, 2) for line, value in ({"select": selecting} | waiting).items()
    }
    more["vggface2_names_min"] = round(VGGFACE2_GB * 1000 / megabytes / 60, 1)
    ratios = {
        "time_each": more_each[-1] / more_each[0],
        "peak": found[last][1] / found[first][1],
    }
    conclude("scale", options.threads, ratios, **more)


def _cropped(archive: Path, folder: Path, threads: int) -> tuple[float, float]:
    """Seconds, and the most bytes of the process and all its children."""
    env = os.environ | {"FACEREP_SCRATCH": str(folder / "scratch"), "PYTHONPATH": str(ROOT / "src")}
    line = [sys.executable, "-c", CUT, str(ROOT), str(archive), str(folder / "faces"), str(threads)]
    start = time.perf_counter()
    process = subprocess.Popen(line, env=env, stderr=subprocess.DEVNULL)
    peaks = [0]
    done = threading.Event()
    watching = threading.Thread(target=_watch, args=(process.pid, peaks, done))
    watching.start()
    code = process.wait()
    seconds = time.perf_counter() - start
    done.set()
    watching.join()
    if code:
        raise SystemExit(f"crop ended with exit code {code}")
    return seconds, max(peaks)


def _names_read(archive: Path) -> tuple[float, float]:
    """Seconds that it takes to read the names in the archive once it is compressed, and megabytes of it a second."""
    packed = archive.with_suffix(".tar.gz")
    with archive.open("rb") as plain, gzip.open(packed, "wb", compresslevel=1) as out:
        shutil.copyfileobj(plain, out)
    start = time.perf_counter()
    for _ in read_members(packed, lambda name: False):
        pass
    seconds = time.perf_counter() - start
    megabytes = packed.stat().st_size / 1e6
    packed.unlink()
    return seconds, megabytes / seconds


def _watch(pid: int, peaks: list[int], done: threading.Event) -> None:
    while not done.wait(0.5):
        with suppress(psutil.Error):
            family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
            peaks.append(sum(one.memory_full_info().pss for one in family))


def _repository(folder: Path) -> Path:
    """A repository of this code, in which nothing has run."""
    for name in ("src", "stages", "dvc.yaml", "params.yaml", "exclude.txt", ".dvcignore", ".gitignore"):
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        folder.mkdir(parents=True, exist_ok=True)
        copy(source, folder / name)
    for line in ("git init -q", "dvc init -q"):
        subprocess.run(line.split(), cwd=folder, check=True)
    return folder


def _nothing_to_do(repository: Path) -> dict[str, float]:
    """Seconds of DVC's commands, once there is something in the place of each output."""
    with Repo(repository) as repo:
        outputs = [Path(out.fs_path) for stage in repo.index.stages for out in stage.outs]
    for path in outputs:
        if path.exists():
            continue
        if path.suffix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")
        else:
            path.mkdir(parents=True)
            (path / "something").touch()
    subprocess.run(["dvc", "commit", "-q", "--force"], cwd=repository, check=True)
    seconds = {}
    for line, words in (("dvc status", "up to date"), ("dvc repro", "up to date")):
        start = time.perf_counter()
        said = subprocess.run(line.split(), cwd=repository, check=True, capture_output=True, text=True).stdout
        seconds[line] = time.perf_counter() - start
        if words not in said:
            raise SystemExit(f"{line} found something to do: {said}")
    return seconds


def _selected(data: Path, rows: int) -> float:
    """Seconds that select takes on an index of so many rows, in a process that has imported it."""
    folder = data / "faces"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)

    def faces():  # type: ignore[no-untyped-def]
        for row in range(rows):
            identity = row // PER_IDENTITY
            yield {
                "key": f"{'test' if identity < 500 else 'train'}/n{identity:06d}/{row % PER_IDENTITY:04d}_01",
                "identity": f"n{identity:06d}",
                "split": "test" if identity < 500 else "train",
                "shard": f"shard-{row // 1300:06d}.tar",
                "offset": row % 1300 * 12000,
                "length": 12000,
                "sha256": "0" * 64,
                "phash": random.bytes(32),
                "sharpness": 100.0,
                "side": 120,
                "found": "box",
            }

    write_index(folder / "index.parquet", faces())
    settings = preset("vggface2").select
    if rows < 500 * PER_IDENTITY:  # all of them in the test split: nothing to pretrain on is no mistake here
        settings = settings.model_copy(update={"min_labelled": 3})
    start = time.perf_counter()
    select(settings, 0, folder / "index.parquet", data / "selection.parquet", data / "dropped.parquet")
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
