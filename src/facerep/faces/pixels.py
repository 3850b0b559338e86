"""Faces from the shards as uint8 batches: decoded once and kept where they fit, decoded as asked where they do not."""

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import simplejpeg
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from facerep.core.cores import cores
from facerep.core.errors import FacerepError
from facerep.faces.draws import send
from facerep.faces.shards import ShardReader


class Batch(NamedTuple):
    """Some faces, with what training needs to know of them."""

    images: Tensor  # uint8 B×3×H×H, channels_last
    labels: Tensor  # int64 B, -1 where there is none
    samples: Tensor  # int64 B, the rows' numbers, on which every draw depends


def decode_face(jpeg: bytes | memoryview, image_size: int | None = None) -> Tensor:
    """A face's JPEG to uint8 3×H×H, made smaller (antialiased bicubic, as transformers' image processor does) if asked."""
    image = torch.from_numpy(simplejpeg.decode_jpeg(jpeg, "RGB")).permute(2, 0, 1)
    return image if image_size is None else _resized(image, image_size)


def _processes() -> int:
    """How many processes like this one a launcher started on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _resized(images: Tensor, size: int) -> Tensor:
    """uint8 …×3×H×H to …×3×size×size, as torchvision's resize has it."""
    if images.shape[-1] == size:
        return images
    batch = images.reshape(-1, *images.shape[-3:])
    if images.is_cuda:  # where torch resizes floats alone
        batch = batch.float()
    batch = interpolate(batch, (size, size), mode="bicubic", antialias=True)
    if images.is_cuda:
        batch = batch.clamp_(0, 255).round_().to(images.dtype)
    return batch.view(*images.shape[:-2], size, size)


class FacePixels(Dataset[Batch]):
    """The faces of some rows of selection.parquet (or index.parquet), at random, a batch at a time.

    Args:
        faces: the folder of the shards.
        rows: a table with the columns shard, offset, length; label where there are labels.
        image_size: side of the images given; None: as the shards hold them.
        memory_mb: the decoded faces are kept in memory when they fit into this; processes that a launcher started on
            one machine, each of which keeps them, share it.

    Raises FacerepError when a shard is missing or a face does not decode.
    """

    def __init__(self, faces: str | Path, rows: pa.Table, image_size: int | None, memory_mb: int = 0) -> None:
        self.reader = ShardReader(Path(faces))
        self.shards = rows["shard"].to_pylist()
        self.offsets = rows["offset"].to_numpy()
        self.lengths = rows["length"].to_numpy()
        known = "label" in rows.column_names
        self.labels = torch.from_numpy(
            rows["label"].to_numpy().astype(np.int64) if known else np.full(rows.num_rows, -1, np.int64)
        )
        self.image_size = image_size or self._stored_size()
        self.device = torch.device("cpu")  # of the batches' images
        self.kept: Tensor | None = None  # uint8 N×H×H×3
        if len(self) * 3 * self.image_size**2 <= memory_mb * 2**20 / _processes():
            self.kept = self._decode(range(len(self))).permute(0, 2, 3, 1)  # as they lie in memory

    def __len__(self) -> int:
        return len(self.shards)

    def move_to(self, device: torch.device) -> bool:
        """From now on give batches that lie on `device`; False, and no change, where each has to be sent there.

        A GPU holds the faces themselves, where they are kept in memory and fill at most a quarter of what it has free.
        Others it decodes, where its torchvision was built with nvJPEG: these pixels differ from the CPU's by a few of
        255, as those of two JPEG decoders do; most where a JPEG holds its colors at half the size, as crop's do not.
        """
        if device.type == "cuda" and self.device != device and len(self):
            if self.kept is not None:
                if self.kept.nbytes <= torch.cuda.mem_get_info(device)[0] / 4:
                    self.kept, self.device = self.kept.to(device), device
            else:
                with suppress(RuntimeError):  # built without it, or a JPEG that the other decoder will explain
                    self._decode_on_gpu([0], device)
                    self.device = device
        return self.device == device

    def __getitem__(self, index: int) -> Batch:
        """A batch of one."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The faces at `indices` in one go; torch's DataLoader calls this for every batch."""
        samples = torch.as_tensor(indices, dtype=torch.int64)
        if self.kept is not None:
            images = self.kept.index_select(0, send(samples, self.device)).permute(0, 3, 1, 2)
        elif self.device.type == "cuda":
            images = self._decode_on_gpu(indices, self.device)
        else:
            images = self._decode(indices)
        return Batch(images, self.labels[samples], samples)

    def _decode(self, indices: Sequence[int]) -> Tensor:
        out = torch.empty(len(indices), self.image_size, self.image_size, 3, dtype=torch.uint8).permute(0, 3, 1, 2)

        def fill(place: int) -> None:
            out[place] = self._decode_one(indices[place], self.image_size)

        if len(indices) == 1:
            fill(0)
            return out

        with ThreadPoolExecutor(max(1, cores() // _processes())) as pool:
            for _ in pool.map(fill, range(len(indices))):
                pass  # raises what a thread raised
        return out

    def _decode_on_gpu(self, indices: Sequence[int], device: torch.device) -> Tensor:
        from torchvision.io import ImageReadMode, decode_jpeg  # a second, for what few runs need

        jpegs = [self.reader.read(self.shards[n], int(self.offsets[n]), int(self.lengths[n])) for n in indices]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torchcodec, which is to take over and is not needed otherwise
            data = [torch.frombuffer(bytearray(jpeg), dtype=torch.uint8) for jpeg in jpegs]
            try:
                images = torch.stack(decode_jpeg(data, ImageReadMode.RGB, device=device))
            except RuntimeError:
                if device != self.device:  # only tried
                    raise
                return self._decode(indices).to(device)  # says which face is damaged, if one is
        return _resized(images, self.image_size)

    def _stored_size(self) -> int:
        return int(self._decode_one(0, None).shape[-1]) if len(self) else 0

    def _decode_one(self, index: int, image_size: int | None) -> Tensor:
        shard, offset, length = self.shards[index], int(self.offsets[index]), int(self.lengths[index])
        try:
            return decode_face(self.reader.read(shard, offset, length), image_size)
        except (RuntimeError, ValueError) as error:  # ValueError: no bytes at all
            raise FacerepError(
                f"{self.reader.folder / shard}: no JPEG at byte {offset}; the shard is damaged, run `dvc repro -f crop`."
            ) from error
