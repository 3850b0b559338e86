"""Fill .gpu/ with what a machine with a GPU and without a network lacks: wheels, and faces in shards.

The wheels are those that training imports beyond what such a machine has (HAS); `--wheels` names more. The faces are
LFW's with their selection, and as many unlabelled ones of faces-pool-64.tar.gz as fit, both from FACEREP_MIRROR; LFW is
downloaded where that has it not. `--data data` takes your own instead, as `dvc repro select` left them.
"""

import argparse
import gzip
import re
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from facerep.archives.writer import TarWriter
from facerep.core.errors import FacerepError
from facerep.core.files import atomic, atomic_folder
from facerep.crop.resample import encode_jpeg
from facerep.crop.stage import crop
from facerep.crop.writer import ShardWriter
from facerep.download.stage import download
from facerep.faces.roles import read_pretraining, read_selection, stable_order
from facerep.faces.shards import ShardReader, read_index, write_index
from facerep.params import Archive, Crop, Download, Select
from facerep.select.stage import select

ROOT = Path(__file__).resolve().parents[1]
# What the machine has, with what these need in turn: an image of PyTorch's, with transformers and the usual around it.
HAS = [
    "torch",
    "torchvision",
    "transformers",
    "accelerate",
    "safetensors",
    "huggingface-hub",
    "timm",
    "fsspec",
    "aiohttp",
    "numpy",
    "scipy",
    "scikit-learn",
    "threadpoolctl",
    "pyarrow",
    "matplotlib",
    "pillow",
    "jinja2",
    "tqdm",
    "requests",
    "rich",
    "psutil",
    "filelock",
    "packaging",
    "typing-extensions",
    "pytest",
    "pytest-timeout",
    "hypothesis",
]
# What else training, its tests and the benchmarks import; a test imports them with these and HAS alone.
WHEELS = ["pydantic", "pydantic-core", "annotated-types", "typing-inspection", "ruamel-yaml", "simplejpeg"]
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
POOL = "faces-pool-64.tar.gz"  # members unlabelled/…, faces of 64 px
SIZE, QUALITY, SHARD_MB = 64, 88, 16
OVERHEAD = 140  # of a face: its header in the shard, its rows in index.parquet and selection.parquet, packed
DRAWN = "synthetic://faces.tar?train_identities=4&test_identities=4&photos=8&seed=0"


def main(given: list[str] | None = None) -> None:
    """Fill the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=ROOT / ".gpu", metavar="FOLDER", help="default: .gpu")
    parser.add_argument("--mb", type=float, default=55, help="MiB that all may fill (default: 55)")
    parser.add_argument("--python", default="3.12", help="of the machine (default: 3.12)")
    parser.add_argument("--wheels", nargs="+", default=[], metavar="NAME", help="more packages that it lacks")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="with faces/ and what select wrote; default: LFW")
    parser.add_argument("--drawn", action="store_true", help="a few drawn faces and no wheels: for a rehearsal")
    options = parser.parse_args(given)
    wheels, packed = options.into / "wheels", options.into / "data.tar.gz"
    try:
        if not options.drawn:
            with atomic_folder(wheels) as part:
                fetch_wheels(part, options.python, (*WHEELS, *options.wheels))
        limit = int(options.mb * 2**20) - size_of(wheels)
        with tempfile.TemporaryDirectory() as folder, atomic(packed) as part:
            data = options.data or faces_to_pack(Path(folder), limit, options.drawn)
            pack(data, part)
            if part.stat().st_size > limit:
                raise FacerepError(
                    f"{data}: takes {part.stat().st_size / 2**20:.1f} MiB and the wheels {size_of(wheels) / 2**20:.1f}, "
                    f"more than --mb {options.mb:g}; raise it, or take fewer faces."
                )
    except FacerepError as error:
        sys.exit(f"gpu-pack: {error}")
    print(
        f"{options.into}: {size_of(wheels) / 2**20:.1f} MiB of wheels, {packed.stat().st_size / 2**20:.1f} MiB of faces"
    )


def fetch_wheels(folder: Path, python: str, names: Sequence[str]) -> None:
    """Wheels for x86-64 Linux into `folder`, in the versions that requirements.lock pins, without what they need in turn.

    Raises FacerepError when a package is not pinned there, or there is no such wheel.
    """
    lock = (ROOT / "requirements.lock").read_text()
    pins = {name: re.search(rf"^{re.escape(name)}==[^\s;]+", lock, re.MULTILINE) for name in names}
    if missing := [name for name, pin in pins.items() if pin is None]:
        raise FacerepError(
            f"requirements.lock: does not pin {', '.join(missing)}; leave out of --wheels what is not in it."
        )
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}", f"--dest={folder}"]
    command += [f"--platform={platform}" for platform in PLATFORMS]
    done = subprocess.run(
        [*command, *(pin[0] for pin in pins.values() if pin)], stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.startswith("ERROR")][-1:] or ["pip failed"]
        raise FacerepError(f"{folder}: {last[0].removeprefix('ERROR: ')}")


def faces_to_pack(work: Path, limit: int, drawn: bool) -> Path:
    """A data folder below `work` of at most `limit` bytes (packed): LFW and the pool, or drawn faces."""
    # here: they bring transformers, which every process that cuts would import
    from benchmarks.common import preset
    from benchmarks.data import mirrored

    demo, lfw = preset("demo"), preset("lfw")
    if drawn:
        cut(demo.crop.model_dump(), [fetched(DRAWN, work)], work / "drawn", method="auto")
        return chosen([work / "drawn"], demo.select.model_copy(update={"min_labelled": 6}), work / "data", limit)
    archive = mirrored("lfw.tgz", "lfw-min2.tgz") or fetched(lfw.download.archives[0], work)
    cut(lfw.crop.model_dump(), [archive], work / "lfw")
    parts = [work / "lfw"]
    if (pool := mirrored(POOL)) is not None:
        cut(lfw.crop.model_dump(), [pool], work / "pool", method="center")
        parts.append(work / "pool")
    else:
        print(f"FACEREP_MIRROR has no {POOL}: LFW alone.")
    return chosen(parts, lfw.select, work / "data", limit)


def fetched(archive: Archive | str, work: Path) -> Path:
    """The archive, downloaded or drawn."""
    wanted = Archive(url=archive) if isinstance(archive, str) else archive
    download(Download(archives=[wanted]), work / "raw")
    return next((work / "raw").iterdir())


def cut(settings: dict[str, Any], archives: Sequence[Path], out: Path, **changes: Any) -> None:
    """Faces of 64 px, as the stage crop cuts them."""
    crop(Crop(**{**settings, "size": SIZE, "quality": QUALITY, **changes}), archives, out)


def chosen(parts: Sequence[Path], settings: Select, out: Path, limit: int) -> Path:
    """All faces of the first part, and of the others as many as fit, by a stable hash; with the selection of seed 0."""
    faces = out / "faces"
    faces.mkdir(parents=True)
    writer, rows, left = ShardWriter(faces, SHARD_MB), [], limit
    for number, part in enumerate(parts):
        index, reader = read_index(part / "index.parquet"), ShardReader(part)
        taken: dict[int, bytes] = {}
        for n in stable_order(index["key"].to_pylist(), 0).tolist():
            jpeg = reader.read(*(index[column][n].as_py() for column in ("shard", "offset", "length")))
            left -= packed_size(jpeg)
            if left < 0:
                break
            taken[n] = jpeg
        print(f"{part.name}: {len(taken)} of {len(index)} faces")
        if number == 0 and len(taken) < len(index):
            raise FacerepError(f"the {len(index)} faces of {part.name} do not fit; raise --mb.")
        for n, row in zip(sorted(taken), index.take(pa.array(sorted(taken))).to_pylist(), strict=True):
            row["shard"], row["offset"], row["length"] = writer.add(row["key"], taken[n])
            rows.append(row)
    writer.close()
    write_index(faces / "index.parquet", rows)
    select(settings, 0, faces / "index.parquet", out / "selection.parquet")
    counts = pc.value_counts(read_selection(out / "selection.parquet")["role"]).to_pylist()
    print(", ".join(f"{count['values']} {count['counts']}" for count in counts))
    return out


def packed_size(jpeg: bytes) -> int:
    """About how many bytes of data.tar.gz a face takes: gzip knows a JPEG's tables from the faces before it."""
    packer = zlib.compressobj(zdict=_tables())
    return len(packer.compress(jpeg)) + len(packer.flush()) + OVERHEAD


@cache
def _tables() -> bytes:
    """What all the JPEGs begin with."""
    return encode_jpeg(np.zeros((SIZE, SIZE, 3), np.uint8), QUALITY)


def pack(data: Path, archive: Path) -> None:
    """faces/, selection.parquet and pretraining.parquet of a data folder in one tar.gz, the same bytes each time.

    Raises FacerepError when they are not there.
    """
    read_index(data / "faces" / "index.parquet")
    selection, pretraining = data / "selection.parquet", data / "pretraining.parquet"
    read_selection(selection)
    read_pretraining(pretraining)
    files = [*sorted((data / "faces").iterdir()), selection, pretraining]
    with (
        archive.open("wb") as file,
        gzip.GzipFile("", "wb", 6, file, mtime=0) as zipped,
        TarWriter(zipped) as tar,
    ):
        for path in files:
            with path.open("rb") as content:
                tar.add_file(f"data/{path.relative_to(data)}", content)


def size_of(folder: Path) -> int:
    """Bytes of all its files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
