"""Synthetic faces for the benchmarks: some hundreds drawn, and repeated to the number that is asked for."""

import os
from collections.abc import Iterable
from itertools import cycle, islice
from pathlib import Path

import pyarrow as pa
from torch import Tensor

from benchmarks.common import preset
from facerep.archives.writer import TarWriter
from facerep.crop.cut import Photograph, cut_face
from facerep.crop.writer import ShardWriter
from facerep.faces.pixels import FacePixels
from facerep.synthetic.archive import Split, photograph

PER_IDENTITY = 8
QUALITY = 90


def draw_faces(count: int, size: int) -> list[bytes]:
    """`count` different faces of `size` pixels as JPEGs of quality 90, drawn and cut by facerep itself; some 50 a second.

    Above some 100 px they are enlarged: their bytes are fewer than a photograph's.
    """
    crop = preset("demo").crop
    crop = crop.model_copy(update={"method": "box", "size": size, "quality": QUALITY})
    people = Split("train", 1, -(-count // PER_IDENTITY), PER_IDENTITY, 0)
    faces = []
    for number in range(count):
        identity, shot = divmod(number, PER_IDENTITY)
        drawn = photograph(people, identity + 1, shot + 1, lambda *_: None)  # none is spoiled
        faces.append(cut_face(Photograph(drawn.key, drawn.key, drawn.data, drawn.box), crop).jpeg)
    return faces


def mirrored(*names: str) -> Path | None:
    """The first of these files that FACEREP_MIRROR has."""
    folder = os.environ.get("FACEREP_MIRROR")
    return next((path for name in names if folder and (path := Path(folder) / name).is_file()), None)


def write_shards(folder: Path, faces: list[bytes], count: int) -> pa.Table:
    """`count` members in shards of 16 MiB, the faces again and again; the rows that FacePixels takes."""
    folder.mkdir(parents=True)
    writer = ShardWriter(folder, 16)
    places = [writer.add(f"train/{n:06d}", face) for n, face in enumerate(islice(cycle(faces), count))]
    writer.close()
    shards, offsets, lengths = zip(*places, strict=True)
    return pa.table({"shard": shards, "offset": offsets, "length": lengths})


def write_tar(path: Path, photos: Iterable[bytes], per_identity: int) -> Path:
    """A plain tar of photographs in identity folders, as `crop` reads it; none of its members is kept in memory."""
    with path.open("wb") as file, TarWriter(file) as tar:
        for place, photo in enumerate(photos):
            tar.add(f"train/n{place // per_identity:06d}/{place:07d}.jpg", photo)
    return path


def write_files(folder: Path, faces: list[bytes], count: int, classes: int = 4) -> None:
    """`count` loose JPEG files in `classes` folders, as torchvision's ImageFolder takes them."""
    for number, face in enumerate(islice(cycle(faces), count)):
        path = folder / f"class{number % classes}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(face)


def in_memory(folder: Path, faces: list[bytes], count: int) -> FacePixels:
    """`count` faces in shards under `folder`, decoded and kept in memory."""
    pixels = FacePixels(folder, write_shards(folder, faces, count), None, memory_mb=2**20)
    assert isinstance(pixels.kept, Tensor)
    return pixels
