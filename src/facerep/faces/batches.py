"""The batches of an epoch: in what order, which process gets which part, and how they come to the device."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader

from facerep.core.errors import FacerepError
from facerep.faces.draws import Draws, send
from facerep.faces.pixels import Batch, FacePixels

ORDER = 100  # the stream of facerep.faces.draws that shuffles an epoch


class Share(NamedTuple):
    """How the work is shared: every batch between `processes`."""

    processes: int = 1
    rank: int = 0


class Part(NamedTuple):
    """A process's part of a batch, on the device."""

    batch: Batch  # its `samples` stay on the CPU, where the draws are made
    photographs: int  # in the whole batch, over all processes


class EpochBatches:
    """Which rows make the batches of an epoch: every row once, in an order that depends on seed and epoch alone.

    The batches are of at most `batch_size` and as even as can be: there is no small last one, and no process that goes
    without.

    Args:
        rows: how many there are.
        batch_size: over all processes.
        seed: None: in the order of the rows.

    Raises FacerepError when a batch is too small to be shared as `share` says. Of rows in order, the only batch may be
    so small that a share is empty.
    """

    def __init__(self, rows: int, batch_size: int, share: Share, seed: int | None = None) -> None:
        self.rows = rows
        self.steps = -(-rows // batch_size)
        self.share = share
        self.seed = seed
        smallest = rows // self.steps if rows else 0
        if (seed is not None or self.steps > 1) and smallest < share.processes:
            raise FacerepError(
                f"batch_size = {batch_size}: a batch of {smallest} photographs cannot be shared by {share.processes} "
                "processes; make the batches larger or the processes fewer."
            )

    def order(self, epoch: int) -> np.ndarray:
        """The rows in the order of an epoch, counted from 0; int64."""
        if self.seed is None:
            return np.arange(self.rows)
        return Draws(self.seed, epoch).uniform(torch.arange(self.rows), ORDER).argsort(stable=True).numpy()

    def parts(self, epoch: int, first_step: int = 0) -> Iterator[tuple[list[int], int]]:
        """This process's rows of each batch, and how many rows the whole batch has, from batch `first_step` on."""
        for batch in np.array_split(self.order(epoch), max(1, self.steps))[first_step:]:
            yield np.array_split(batch, self.share.processes)[self.share.rank].tolist(), len(batch)


class Loader:
    """The batches of some photographs, on the device."""

    def __init__(self, pixels: FacePixels, batches: EpochBatches, device: torch.device) -> None:
        self.pixels = pixels
        self.batches = batches
        self.device = device
        there = pixels.move_to(device)
        self.pinned = not there and device.type == "cuda"  # memory which a GPU copies from while it computes
        # faces that a GPU holds are one gather there, which nobody waits for
        self.ahead = device.type != "cpu" and not (there and pixels.kept is not None)

    def epoch(self, epoch: int = 0, first_step: int = 0) -> Iterator[Part]:
        """An epoch's batches; where the device works by itself, each is fetched while the one before is in use."""
        parts = [part for part in self.batches.parts(epoch, first_step) if part[0]]
        rows: Sequence[Any] = [rows for rows, _ in parts]
        fetched: Iterator[Batch] = iter(
            DataLoader(self.pixels, batch_sampler=rows, collate_fn=_as_is, pin_memory=self.pinned)
        )
        if self.ahead:
            fetched = ahead(fetched)
        for _, photographs in parts:
            images, labels, samples = next(fetched)
            here = Batch(send(images, self.device), send(labels, self.device), samples)
            yield Part(here, photographs)


def ahead(items: Iterator[Any]) -> Iterator[Any]:
    """The same items, each fetched in the background while the one before it is in use."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item


def _as_is(batch: Any) -> Any:
    return batch
