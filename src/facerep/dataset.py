"""FaceDataset: the faces in four versions, as a torch Dataset. The public face of what training does on the device."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils.data import Dataset

from facerep.core.errors import FacerepError
from facerep.faces.draws import Draws
from facerep.faces.pixels import FacePixels
from facerep.faces.roles import read_selection
from facerep.faces.shards import read_index
from facerep.faces.transforms import TURN, grayscale, normalize, to_float, turn

VERSIONS = ("original", "rotated", "grayscale", "rotated_grayscale")


class FaceDataset(Dataset[dict[str, Tensor]]):
    """Faces and what is asked about them.

    | version             | image                          | label                                                    |
    |---------------------|--------------------------------|----------------------------------------------------------|
    | `original`          | the photograph                 | identity, one-hot                                        |
    | `rotated`           | turned by 0, 90, 180 or 270°   | the turn, one-hot (4)                                    |
    | `grayscale`         | grey, 3 equal channels         | the original photograph, flattened (3·H·W)               |
    | `rotated_grayscale` | turned and grey                | the turn's 4 values, then the flattened original         |

    A sample is `{"image", "label"}`: image float32 3×H×W, normalised by ImageNet's mean and std (the flattened original
    too), label float32. Turns are counter-clockwise; which one a sample gets depends on seed, epoch and its number.

    Args:
        root: the data folder, with `faces/` and `selection.parquet`; or a folder of shards with its `index.parquet`.
        version: one of the four above.
        role: only the rows of this role: pretrain, train, val or test. None: all rows.
        image_size: side of the image; None: as the shards hold it.
        seed: of the turns.

    Attributes:
        identities: the names behind the one-hot places of `original`, sorted.

    Raises FacerepError for an unknown version or role and for a folder without faces.
    """

    def __init__(
        self, root: str | Path, version: str, *, role: str | None = None, image_size: int | None = None, seed: int = 0
    ) -> None:
        root = Path(root)
        if version not in VERSIONS:
            raise FacerepError(f"version = {version!r}: not known; one of {', '.join(VERSIONS)}.")
        self.version = version
        self.seed = seed
        self.epoch = 0
        if (root / "index.parquet").is_file():
            if role is not None:
                raise FacerepError(f"{root}: a folder of shards has no role {role!r}; give the data folder above it.")
            faces, rows = root, read_index(root / "index.parquet")
        else:
            faces, rows = root / "faces", read_selection(root / "selection.parquet", role)
        names = rows["identity"].to_pylist()
        self.identities = sorted(set(names))
        place = {name: n for n, name in enumerate(self.identities)}
        self.labels = torch.tensor([place[name] for name in names], dtype=torch.int64)
        self.pixels = FacePixels(faces, rows, image_size)

    def set_epoch(self, epoch: int) -> None:
        """Draw other turns, as torch's DistributedSampler does other orders."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """The sample at `index`, a whole number from -len to len - 1. Raises IndexError beyond."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        index %= len(self)
        batch = self.pixels[index]
        original = image = to_float(batch.images)
        label = []
        if self.version == "original":
            label.append(one_hot(self.labels[index], len(self.identities)).float())
        if "rotated" in self.version:
            turns = Draws(self.seed, self.epoch).integers(batch.samples, TURN, 4)
            image = turn(image, turns)
            label.append(one_hot(turns[0], 4).float())
        if "grayscale" in self.version:
            image = grayscale(image)
            label.append(normalize(original).flatten())
        return {"image": normalize(image)[0], "label": torch.cat(label)}
