"""FaceDataset's four versions against PIL and plain numpy."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from facerep.core.errors import FacerepError
from facerep.dataset import FaceDataset
from facerep.faces.roles import read_selection

MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])
VERSIONS = ["original", "rotated", "grayscale", "rotated_grayscale"]


@pytest.fixture(scope="module")
def rows(data_folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_selection(data_folder / "selection.parquet", "train").to_pylist()
    return rows


def photograph(data_folder: Path, row: dict[str, Any]) -> np.ndarray:
    """H×W×3 in [0, 1], by plain reading and PIL."""
    data = (data_folder / "faces" / row["shard"]).read_bytes()[row["offset"] :][: row["length"]]
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float64) / 255


def channels_first(image: np.ndarray) -> np.ndarray:
    normalised: np.ndarray = ((image - MEAN) / STD).transpose(2, 0, 1)
    return normalised


def quarter_turns(sample: dict[str, torch.Tensor], upright: np.ndarray) -> int:
    """By which turn the image is the upright one, found by trying all four; exactly one must fit."""
    fits = [k for k in range(4) if np.allclose(sample["image"], channels_first(np.rot90(upright, k)), atol=2e-3)]
    assert len(fits) == 1
    return fits[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_is_what_the_table_says(version: str, data_folder: Path, rows: list[dict[str, Any]]) -> None:
    faces = FaceDataset(data_folder, version, role="train")
    assert len(faces) == len(rows) == 16
    names = sorted({row["identity"] for row in rows})
    assert faces.identities == names
    turned = set()
    for n, row in enumerate(rows):
        sample = faces[n]
        assert set(sample) == {"image", "label"}
        assert sample["image"].shape == (3, 32, 32)
        assert sample["image"].dtype == sample["label"].dtype == torch.float32
        colour = photograph(data_folder, row)
        grey = np.repeat(colour @ [[0.2989], [0.587], [0.114]], 3, axis=2)
        label = sample["label"].numpy()
        if version == "original":
            assert np.allclose(sample["image"], channels_first(colour), atol=1e-5)
            assert label.tolist() == [float(name == row["identity"]) for name in names]
        if version == "grayscale":
            assert np.allclose(sample["image"], channels_first(grey), atol=1e-4)
        if version in ("rotated", "rotated_grayscale"):
            k = quarter_turns(sample, colour if version == "rotated" else grey)
            turned.add(k)
            assert label[:4].tolist() == [float(k == turn) for turn in range(4)]
        if version in ("grayscale", "rotated_grayscale"):
            flat = label if version == "grayscale" else label[4:]
            assert np.allclose(flat, channels_first(colour).ravel(), atol=1e-5)
        if version == "rotated":
            assert label.shape == (4,)
    if "rotated" in version:
        assert turned == {0, 1, 2, 3}


def turns_of(faces: FaceDataset) -> list[int]:
    return [int(faces[n]["label"][:4].argmax()) for n in range(len(faces))]


def test_turns_depend_on_seed_epoch_and_sample_alone(data_folder: Path) -> None:
    faces = FaceDataset(data_folder, "rotated")
    first = turns_of(faces)
    assert turns_of(faces) == first
    assert turns_of(FaceDataset(data_folder, "rotated")) == first
    assert turns_of(FaceDataset(data_folder, "rotated_grayscale")) == first
    assert turns_of(FaceDataset(data_folder, "rotated", seed=1)) != first
    faces.set_epoch(1)
    assert turns_of(faces) != first
    faces.set_epoch(0)
    assert turns_of(faces) == first


@pytest.mark.parametrize("version", VERSIONS)
def test_a_loader_with_workers_gives_the_same_samples(version: str, data_folder: Path) -> None:
    faces = FaceDataset(data_folder, version, role="val")
    loader = DataLoader(faces, batch_size=3, num_workers=2)
    batches = list(loader)
    assert [len(batch["image"]) for batch in batches] == [3, 3, 2]
    for part in ("image", "label"):
        whole = torch.cat([batch[part] for batch in batches])
        assert torch.equal(whole, torch.stack([faces[n][part] for n in range(len(faces))]))


def test_a_folder_of_shards_serves_without_a_selection(data_folder: Path) -> None:
    faces = FaceDataset(data_folder / "faces", "original")
    assert len(faces) == 96
    assert len(faces.identities) == 12
    assert faces[0]["label"].sum() == 1


def test_the_image_size_is_made_smaller_and_so_is_the_label(data_folder: Path) -> None:
    sample = FaceDataset(data_folder, "rotated_grayscale", image_size=16)[0]
    assert sample["image"].shape == (3, 16, 16)
    assert sample["label"].shape == (4 + 3 * 16 * 16,)


def test_places_count_from_both_ends_and_stop_there(data_folder: Path) -> None:
    faces = FaceDataset(data_folder, "rotated", role="test")
    assert torch.equal(faces[-1]["image"], faces[len(faces) - 1]["image"])
    for beyond in (len(faces), -len(faces) - 1):
        with pytest.raises(IndexError, match=f"sample {beyond} of {len(faces)}"):
            faces[beyond]
    assert len(list(iter(faces))) == len(faces)  # a loop over it ends, since IndexError comes


@pytest.mark.parametrize(
    ("version", "role", "words"),
    [
        ("rotate", None, "'rotate'.*rotated_grayscale"),
        ("rotated", "tests", "'tests'.*pretrain, train, val, test"),
    ],
)
def test_unknown_words_are_named(data_folder: Path, version: str, role: str | None, words: str) -> None:
    with pytest.raises(FacerepError, match=words):
        FaceDataset(data_folder, version, role=role)


@pytest.mark.parametrize("version", ["simclr", "supervised"])
def test_a_pretext_that_is_no_version_is_named_with_those_that_are(data_folder: Path, version: str) -> None:
    with pytest.raises(FacerepError, match=f"'{version}'.*original, rotated, grayscale, rotated_grayscale"):
        FaceDataset(data_folder, version)[0]


def test_a_folder_without_faces_is_named(tmp_path: Path) -> None:
    with pytest.raises(FacerepError, match=f"{tmp_path}.*not there"):
        FaceDataset(tmp_path, "rotated")


def test_a_role_of_a_bare_folder_of_shards_is_refused(data_folder: Path) -> None:
    """It has no roles; all its faces in the place of those asked for would leak."""
    with pytest.raises(FacerepError, match="role"):
        FaceDataset(data_folder / "faces", "rotated", role="train")
