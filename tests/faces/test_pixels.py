"""Faces read from the shards against PIL and transformers' own image processor."""

import io
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tvf

from facerep.core.errors import FacerepError
from facerep.faces.pixels import Batch, FacePixels, decode_face
from facerep.faces.roles import read_selection
from facerep.faces.shards import read_index
from facerep.faces.transforms import normalize, to_float
from facerep.nets.convnext import image_processor
from tests.support.faces import Face, as_jpeg, write_faces


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve faces of 48 px in three shards: smooth shapes with some noise."""
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:48, :48][..., None]
    waves = [
        127 + 100 * np.sin(x * draw.uniform(0.1, 0.5) + y * draw.uniform(0.1, 0.5) + draw.uniform(0, 6, 3))
        for _ in range(12)
    ]
    photographs = [(wave + draw.normal(0, 8, wave.shape)).clip(0, 255).astype(np.uint8) for wave in waves]
    folder = tmp_path_factory.mktemp("pixels") / "faces"
    write_faces(folder, [Face("all", f"n{n}", "0", p) for n, p in enumerate(photographs)], per_shard=5)
    return folder


def stored(folder: Path, row: dict[str, object]) -> bytes:
    """The JPEG of a row, by plain reading."""
    data = (folder / str(row["shard"])).read_bytes()
    start = int(str(row["offset"]))
    return data[start : start + int(str(row["length"]))]


def by_pil(jpeg: bytes) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(io.BytesIO(jpeg)).convert("RGB"))).permute(2, 0, 1)


@pytest.mark.parametrize("memory_mb", [0, 100])
def test_faces_are_what_pil_reads_from_the_shards(faces: Path, memory_mb: int) -> None:
    index = read_index(faces / "index.parquet")
    pixels = FacePixels(faces, index, None, memory_mb)
    assert (pixels.kept is not None) == (memory_mb > 0)
    assert len(pixels) == 12
    batch = pixels.__getitems__([7, 0, 11, 7])
    assert batch.images.shape == (4, 3, 48, 48)
    assert batch.images.dtype == torch.uint8
    assert batch.samples.tolist() == [7, 0, 11, 7]
    assert batch.labels.tolist() == [-1] * 4
    rows = index.to_pylist()
    for place, row in enumerate([7, 0, 11, 7]):
        assert torch.equal(batch.images[place], by_pil(stored(faces, rows[row])))


@pytest.mark.parametrize("image_size", [None, 32])
def test_kept_and_decoded_as_asked_are_the_same(faces: Path, image_size: int | None) -> None:
    index = read_index(faces / "index.parquet")
    kept, asked = FacePixels(faces, index, image_size, 100), FacePixels(faces, index, image_size, 0)
    assert kept.kept is not None
    assert asked.kept is None
    for a, b in zip(kept.__getitems__(range(12)), asked.__getitems__(range(12)), strict=True):
        assert torch.equal(a, b)
    for n in range(12):
        assert torch.equal(kept[n].images, asked[n].images)


def test_processes_on_one_machine_share_the_memory(faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them keeps all faces."""
    rows = pa.concat_tables([read_index(faces / "index.parquet")] * 8)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert FacePixels(faces, rows, None, 1).kept is None
    assert FacePixels(faces, rows, None, 2).kept is not None


def test_faces_are_kept_up_to_the_last_byte_of_memory(faces: Path) -> None:
    """96 faces of 48 px are 0.63 MiB: over 0, under 1; 152 of them are 1.002 MiB."""
    index = read_index(faces / "index.parquet")
    assert FacePixels(faces, pa.concat_tables([index] * 8), None, 1).kept is not None
    assert FacePixels(faces, pa.concat_tables([index] * 13), None, 1).kept is None


@pytest.mark.parametrize("image_size", [32, 48])
def test_made_smaller_and_normalised_is_what_transformers_image_processor_gives(faces: Path, image_size: int) -> None:
    index = read_index(faces / "index.parquet")
    images = normalize(to_float(FacePixels(faces, index, image_size).__getitems__(range(12)).images))
    processor = image_processor(image_size)
    photographs = [Image.open(io.BytesIO(stored(faces, row))) for row in index.to_pylist()]
    expected = processor(photographs, return_tensors="pt")["pixel_values"]
    assert images.shape == expected.shape
    assert torch.allclose(images, expected, atol=1e-6)


def test_made_smaller_is_near_pils_antialiased_bicubic(faces: Path) -> None:
    jpeg = stored(faces, read_index(faces / "index.parquet").to_pylist()[0])
    got = decode_face(jpeg, 32).float()
    expected = np.asarray(Image.open(io.BytesIO(jpeg)).resize((32, 32), Image.Resampling.BICUBIC), np.float32)
    assert np.abs(got.permute(1, 2, 0).numpy() - expected).max() <= 2


def test_a_grey_jpeg_has_three_equal_channels() -> None:
    jpeg = as_jpeg(np.arange(256, dtype=np.uint8).reshape(16, 16))
    image = decode_face(jpeg)
    assert image.shape == (3, 16, 16)
    assert torch.equal(image[0], image[1])


def test_labels_are_those_of_the_selection(data_folder: Path) -> None:
    rows = read_selection(data_folder / "selection.parquet", "train")
    backwards = range(rows.num_rows - 1, -1, -1)
    batch = FacePixels(data_folder / "faces", rows, 32).__getitems__(backwards)
    assert batch.labels.tolist() == rows["label"].to_pylist()[::-1]
    assert len(set(batch.labels.tolist())) == 4
    assert batch.labels.dtype == torch.int64


def test_a_loader_with_workers_gets_whole_batches(faces: Path) -> None:
    pixels = FacePixels(faces, read_index(faces / "index.parquet"), None)
    loader: DataLoader[Batch] = DataLoader(pixels, batch_size=5, num_workers=2, collate_fn=_as_it_is)  # type: ignore[arg-type]
    batches = list(loader)
    assert [len(batch.samples) for batch in batches] == [5, 5, 2]
    assert torch.equal(torch.cat([batch.images for batch in batches]), pixels.__getitems__(range(12)).images)


def _as_it_is(batch: Batch) -> Batch:
    return batch


def test_it_can_be_sent_to_another_process_after_use(faces: Path) -> None:
    """Where processes are spawned, DataLoader pickles its data set."""
    pixels = FacePixels(faces, read_index(faces / "index.parquet"), None)
    first = pixels[3].images
    assert torch.equal(pickle.loads(pickle.dumps(pixels))[3].images, first)


def test_a_damaged_or_missing_shard_is_named(faces: Path, tmp_path: Path) -> None:
    index = read_index(faces / "index.parquet")
    copy = tmp_path / "faces"
    shutil.copytree(faces, copy)
    shard = copy / "shard-000001.tar"
    whole = shard.read_bytes()

    shard.write_bytes(b"\0" * len(whole))
    with pytest.raises(FacerepError, match=r"shard-000001\.tar.*no JPEG at byte \d+.*dvc repro"):
        FacePixels(copy, index, None)[5]
    shard.write_bytes(whole[:1000])
    with pytest.raises(FacerepError, match=r"shard-000001\.tar"):
        FacePixels(copy, index, None)[5]
    shard.unlink()
    with pytest.raises(FacerepError, match=r"shard-000001\.tar"):
        FacePixels(copy, index, None, 100)


def test_a_row_of_no_bytes_is_named_too(faces: Path) -> None:
    index = read_index(faces / "index.parquet")
    empty = index.set_column(index.column_names.index("length"), "length", pa.array([0] * 12, pa.int64()))
    with pytest.raises(FacerepError, match=r"shard-000000\.tar: no JPEG"):
        FacePixels(faces, empty, None)[0]


def test_no_rows_are_no_faces(faces: Path) -> None:
    assert len(FacePixels(faces, read_index(faces / "index.parquet").slice(0, 0), None)) == 0


@pytest.mark.parametrize("size", [16, 33, 47, 96])
def test_faces_are_resized_as_torchvision_does_it_to_the_bit(faces: Path, size: int) -> None:
    index = read_index(faces / "index.parquet")
    for row in index.to_pylist():
        face = by_pil(stored(faces, row))
        wanted = tvf.resize(face, [size, size], interpolation=InterpolationMode.BICUBIC, antialias=True)
        assert torch.equal(decode_face(stored(faces, row), size), wanted)
