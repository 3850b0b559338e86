"""dlib's face recognition network in torch, from dlib's own file of weights: the same vectors in a twelfth of the time.

The network is a ResNet of 29 convolutions (He et al., CVPR 2016, with half the filters), trained by Davis King on some 3
million faces of 7,485 people so that two photographs of one person lie nearer than 0.6 in 128 dimensions; its author gives
99.38 % on LFW's pairs. `dlib-bin` is compiled without BLAS: 100 ms a face on one core, where torch takes 8. A test compares
the two.

The weights come with PyPI's face-recognition-models. The models that are read here are in the public domain (CC0 1.0), its
Python is under the MIT licence.
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from facerep.core.errors import FacerepError

PACKAGE = "face_recognition_models"
WEIGHTS = "dlib_face_recognition_resnet_model_v1.dat"
POINTS = "shape_predictor_5_face_landmarks.dat"
SIDE = 150  # of the aligned face that it wants, pixels
MEAN = (122.782, 117.001, 104.298)  # of red, green, blue
# filters of each block, and whether it halves the map
BLOCKS = [(32, False)] * 3 + [(64, True)] + [(64, False)] * 3 + [(128, True)] + [(128, False)] * 2
BLOCKS += [(256, True)] + [(256, False)] * 2 + [(256, True)]


def model_file(name: str, folder: str | Path | None = None) -> Path:
    """A file of the package, from `folder` (where `pip install --target` put it), or from the environment.

    The package is not imported: its own code asks for pkg_resources, which setuptools has no more. Raises FacerepError
    where the file is in neither.
    """
    if folder is not None:
        bases = [str(Path(folder) / PACKAGE)]
    else:
        spec = importlib.util.find_spec(PACKAGE)
        bases = list(spec.submodule_search_locations or []) if spec is not None else []
    for base in bases:
        if (path := Path(base) / "models" / name).is_file():
            return path
    raise FacerepError(
        f"{name}: not in {folder or 'the environment'}; `pip install --no-deps face-recognition-models`, with --target "
        "FOLDER and then --peers FOLDER where it shall not go into the environment."
    )


class Block(nn.Module):
    """Two convolutions of 3×3, each with a scale and a shift for each channel, and the input added."""

    def __init__(self, channels: int, filters: int, halves: bool) -> None:
        super().__init__()
        self.halves = halves
        # dlib pads where nothing is skipped
        self.first = nn.Conv2d(channels, filters, 3, 2 if halves else 1, 0 if halves else 1)
        self.second = nn.Conv2d(filters, filters, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """float32 B×C×H×W to B×F×H'×W'."""
        y = self.second(functional.relu(self.first(x)))
        if self.halves:
            x = functional.avg_pool2d(x, 2)
        # dlib's add_prev: what one of the two lacks, in channels or at the edge, is zero
        shape = [max(a, b) for a, b in zip(x.shape, y.shape, strict=True)]
        return functional.relu(_filled(x, shape) + _filled(y, shape))


def _filled(x: Tensor, shape: list[int]) -> Tensor:
    missing = [wanted - have for wanted, have in zip(shape, x.shape, strict=True)]
    return functional.pad(x, (0, missing[3], 0, missing[2], 0, missing[1])) if any(missing) else x


class DlibNetwork(nn.Module):
    """uint8 B×150×150×3 (RGB, aligned by dlib's five points) to float32 B×128."""

    mean: Tensor

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 7, 2)
        channels, blocks = 32, list[Block]()
        for filters, halves in BLOCKS:
            blocks.append(Block(channels, filters, halves))
            channels = filters
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Linear(channels, 128, bias=False)
        self.register_buffer("mean", torch.tensor(MEAN))
        _load([self.stem, *(c for block in blocks for c in (block.first, block.second))], self.last, weights)
        self.eval()

    def forward(self, faces: Tensor) -> Tensor:
        """The vectors."""
        x = ((faces.float() - self.mean) / 256).permute(0, 3, 1, 2)
        x = functional.max_pool2d(functional.relu(self.stem(x)), 3, 2)
        vectors: Tensor = self.last(self.blocks(x).mean((2, 3)))
        return vectors


def _load(convolutions: list[nn.Conv2d], last: nn.Linear, path: Path) -> None:
    """Fill the layers; scale and shift, which follow each convolution, go into its filters.

    Raises FacerepError when the file is another one.
    """
    try:
        *found, (matrix,) = _tensors(path.read_bytes(), convolutions)
    except ValueError:
        raise FacerepError(
            f"{path}: not dlib's network of 29 convolutions; install face-recognition-models 0.3.0."
        ) from None
    with torch.no_grad():
        for convolution, (filters, bias, scale, shift) in zip(convolutions, found, strict=True):
            convolution.weight.copy_(filters.reshape(convolution.weight.shape) * scale[:, None, None, None])
            if convolution.bias is not None:
                convolution.bias.copy_(bias * scale + shift)
        last.weight.copy_(matrix.reshape(last.in_features, last.out_features).T)


def _tensors(data: bytes, convolutions: list[nn.Conv2d]) -> Iterator[tuple[Tensor, ...]]:
    """Of each convolution filters, bias, scale and shift, then the last layer's matrix; they lie from the input on.

    dlib writes a tensor as its version, 2, four sizes and raw floats; whole numbers as a byte with their length in bytes,
    then these. Raises ValueError where one is missing.
    """
    place = 0

    def take(after: bytes, *sizes: int) -> Tensor:
        nonlocal place
        head = b"".join(map(_whole, (2, *sizes)))
        place = data.index(head, data.index(after, place)) + len(head)
        values = np.frombuffer(data, "<f4", int(np.prod(sizes)), place)
        place += values.nbytes
        return torch.from_numpy(values.copy())

    for convolution in convolutions:
        count = convolution.out_channels
        both = take(b"con_4", convolution.weight.numel() + count, 1, 1, 1)
        scale, shift = take(b"affine_", 2 * count, 1, 1, 1).split(count)
        yield both[:-count], both[-count:], scale, shift
    yield (take(b"fc_2", 256, 128, 1, 1),)


def _whole(value: int) -> bytes:
    length = (value.bit_length() + 7) // 8
    return bytes([length]) + value.to_bytes(length, "little")
