"""Folders of faces, written without facerep's own writer."""

import dataclasses
import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

INDEX_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("identity", pa.string()),
        ("split", pa.string()),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("sha256", pa.string()),
        ("phash", pa.binary(32)),
        ("sharpness", pa.float32()),
        ("side", pa.int32()),
        ("found", pa.string()),
    ]
)


@dataclasses.dataclass(frozen=True)
class Face:
    """One face to be stored: its place in the data set and its pixels, uint8 H×H×3."""

    split: str
    identity: str
    stem: str
    pixels: np.ndarray

    @property
    def key(self) -> str:
        return f"{self.split}/{self.identity}/{self.stem}"


def as_jpeg(pixels: np.ndarray, quality: int = 95) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=quality)
    return out.getvalue()


def write_faces(folder: Path, faces: list[Face], per_shard: int = 40) -> pa.Table:
    """Shards by Python's tarfile and their index.parquet, as the crop stage promises them."""
    folder.mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for start in range(0, len(faces), per_shard):
        shard = f"shard-{start // per_shard:06d}.tar"
        with tarfile.open(folder / shard, "w", format=tarfile.USTAR_FORMAT) as tar:
            for face in faces[start : start + per_shard]:
                data = as_jpeg(face.pixels)
                member = tarfile.TarInfo(f"{face.key}.jpg")
                member.size = len(data)
                digest = hashlib.sha256(data)
                rows.append(
                    {
                        "key": face.key,
                        "identity": face.identity,
                        "split": face.split,
                        "shard": shard,
                        "offset": tar.offset + tarfile.BLOCKSIZE,  # the bytes follow one block of header
                        "length": len(data),
                        "sha256": digest.hexdigest(),
                        "phash": hashlib.blake2b(data, digest_size=32).digest(),  # far from every other
                        "sharpness": 1.0,
                        "side": 100,
                        "found": "center",
                    }
                )
                tar.addfile(member, io.BytesIO(data))
    index = pa.Table.from_pylist(rows, schema=INDEX_SCHEMA)
    pq.write_table(index, folder / "index.parquet")
    return index


def toy_faces(split: str, identities: int, photographs: int, side: int = 32, seed: int = 0) -> list[Face]:
    """Faces that can be learned in seconds: an identity is a colour, the light falls from above, the rest is noise."""
    draw = np.random.default_rng([seed, len(split), identities])
    faces = []
    light = np.linspace(1.0, 0.3, side)[:, None, None]
    for i in range(identities):
        colour = draw.uniform(60, 255, 3)
        for j in range(photographs):
            pixels = colour * light + draw.normal(0, 12, (side, side, 3))
            faces.append(Face(split, f"{split}{i:03d}", f"{j:04d}_01", pixels.clip(0, 255).astype(np.uint8)))
    return faces
