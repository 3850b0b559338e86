"""Push and pull of the demo's faces as tar shards with an index, against the same faces one file a photograph.

Both through DVC, with the project's own configuration, and a real Google Cloud Storage server on loopback that keeps its
objects in a folder. Each turn takes a fresh repository, a fresh place in the bucket and a fresh clone: `dvc add`, `dvc push`
there, `dvc pull` (with its checkout) here, each a command of its own, its start included. A network would add its round
trips, which the files have thousands of.

Faces: data/faces where `dvc repro crop` has made it, else as many as the demo has, drawn by facerep.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.common import ROOT, arguments, conclude, number, reached, show
from benchmarks.data import draw_faces, write_shards
from tests.support.gcs import running_server

REACH = {"push": 10.0, "pull": 10.0}
WAYS = ("shards", "files")
COMMANDS = ("add", "push", "pull")
CLASSES = 160  # folders of the loose files: the demo's identities


def main(given: list[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__, repeats=3, seconds=0)
    parser.add_argument("--photographs", type=int, help="drawn ones (default: data/faces, or the demo's number)")
    options = parser.parse_args(given)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count, source = _write(folder, options.photographs)
        sizes = {way: sum(p.stat().st_size for p in (folder / way).rglob("*") if p.is_file()) for way in WAYS}
        seconds: dict[tuple[str, str], list[float]] = {(way, c): [] for way in WAYS for c in COMMANDS}
        for turn in range(options.repeats):
            for way in WAYS:
                for command, took in _measured(folder, way, folder / f"{way}-{turn}").items():
                    seconds[way, command].append(took)
    median = {key: statistics.median(values) for key, values in seconds.items()}
    ratios = {command: median["files", command] / median["shards", command] for command in COMMANDS}
    rows = [
        [
            f"dvc {command}",
            *(f"{number(median[way, command])} ({number(min(seconds[way, command]))})" for way in WAYS),
            *reached(ratios[command], at_least=REACH.get(command)),
        ]
        for command in COMMANDS
    ]
    title = (
        f"{count:,} faces ({source}), {sizes['files'] / 1e6:.1f} MB as files and {sizes['shards'] / 1e6:.1f} as shards"
    )
    show(title, ["", "shards, s (best)", "files, s (best)", "shards are × as fast", "wanted"], rows)
    told = {f"{way}_{command}": round(value, 3) for (way, command), value in median.items()}
    conclude("remote", options.threads, ratios, photographs=count, source=source, seconds=told)


def _write(folder: Path, count: int | None) -> tuple[int, str]:
    """The same faces in both ways, in folders of these names; how many, and where they are from."""
    made = ROOT / "data" / "faces"
    if count is None and (made / "index.parquet").is_file():
        shutil.copytree(made, folder / "shards")
        faces = []
        for shard in sorted(made.glob("*.tar")):
            with tarfile.open(shard) as tar:
                faces += [file.read() for member in tar if (file := tar.extractfile(member)) is not None]
        source = "data/faces"
    else:
        count = count or json.loads((ROOT / "metrics" / "crop.json").read_text())["faces"]
        faces, source = draw_faces(count, 64), "drawn"
        rows = write_shards(folder / "shards", faces, count)
        keys = pa.array([f"train/{place:06d}" for place in range(count)])
        pq.write_table(rows.append_column("key", keys), folder / "shards" / "index.parquet")
    for place, face in enumerate(faces):
        path = folder / "files" / f"n{place % CLASSES:06d}" / f"{place:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(face)
    return len(faces), source


def _measured(folder: Path, way: str, place: Path) -> dict[str, float]:
    """Seconds of each command."""
    repo, clone, objects = place / "repo", place / "clone", place / "objects"
    objects.mkdir(parents=True)
    with running_server("facerep", objects) as address:
        repo.mkdir()
        _run(repo, "git", "init", "-q", "-b", "main")
        _run(repo, "dvc", "init", "-q")
        shutil.copy(ROOT / ".dvc" / "config", repo / ".dvc" / "config")
        _point_at(repo, address)
        shutil.copytree(folder / way, repo / "faces")
        seconds = {"add": _run(repo, "dvc", "add", "-q", "faces"), "push": _run(repo, "dvc", "push", "-q")}
        _run(repo, "git", "add", ".")
        _run(repo, "git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "faces")
        _run(place, "git", "clone", "-q", str(repo), str(clone))
        _point_at(clone, address)
        seconds["pull"] = _run(clone, "dvc", "pull", "-q")
        pulled = sum(1 for path in (clone / "faces").rglob("*") if path.is_file())
        if pulled != sum(1 for path in (folder / way).rglob("*") if path.is_file()):
            raise RuntimeError(f"{way}: {pulled} files were pulled, which is not all of them")
    shutil.rmtree(place)
    return seconds


def _point_at(repo: Path, address: str) -> None:
    text = "[core]\nremote = storage\n['remote \"storage\"']\nurl = gs://facerep/dvc\nverify = true\n"
    text += f"endpointurl = {address}\nallow_anonymous_login = true\n"
    (repo / ".dvc" / "config.local").write_text(text)


def _run(cwd: Path, *command: str) -> float:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
    start = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
