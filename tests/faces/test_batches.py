"""The batches of an epoch: every row once, in even shares, in an order of seed and epoch alone; and how they are fetched."""

import gc
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from facerep.core.errors import FacerepError
from facerep.faces.batches import ORDER, EpochBatches, Loader, Share, ahead
from facerep.faces.draws import Draws
from facerep.faces.pixels import FacePixels
from facerep.faces.shards import ShardReader
from tests.support.micro import rows_of, splits_of

sizes = {"rows": st.integers(1, 300), "batch_size": st.integers(2, 64)}
shares = {"processes": st.integers(1, 5)}


def batches_of(rows: int, batch_size: int, processes: int, seed: int | None = 3) -> list[EpochBatches]:
    """Those of each process, as far as the batches are large enough."""
    try:
        return [EpochBatches(rows, batch_size, Share(processes, rank), seed) for rank in range(processes)]
    except FacerepError:
        assume(False)
        raise


@given(**sizes, **shares, epoch=st.integers(0, 5))
def test_all_processes_together_meet_each_row_once(rows: int, batch_size: int, processes: int, epoch: int) -> None:
    ranks = batches_of(rows, batch_size, processes)
    met = Counter(row for batches in ranks for own, _ in batches.parts(epoch) for row in own)
    assert met == Counter(range(rows))


@given(**sizes, **shares)
def test_batches_and_shares_are_as_even_as_can_be(rows: int, batch_size: int, processes: int) -> None:
    """Of as few batches as there can be, none is smaller by two than another; nor is a share of a batch."""
    ranks = batches_of(rows, batch_size, processes)
    lengths = [[len(own) for own, _ in batches.parts(0)] for batches in ranks]
    steps = ranks[0].steps
    assert (steps - 1) * batch_size < rows <= steps * batch_size
    assert all(len(each) == steps for each in lengths), "all processes take the same number of steps"
    by_share = np.array(lengths)
    assert by_share.min() >= 1
    assert by_share.sum(0).max() <= batch_size
    assert np.ptp(by_share.sum(0)) <= 1
    assert np.ptp(by_share, axis=0).max() <= 1


@given(**sizes, **shares, epoch=st.integers(0, 5))
def test_the_shares_make_up_the_whole_batches_in_order(rows: int, batch_size: int, processes: int, epoch: int) -> None:
    """So that what is trained on together does not depend on how many train."""
    whole = list(EpochBatches(rows, batch_size, Share(), 3).parts(epoch))
    ranks = [list(batches.parts(epoch)) for batches in batches_of(rows, batch_size, processes)]
    for (expected, photographs), *parts in zip(whole, *ranks, strict=True):
        assert [row for own, _ in parts for row in own] == expected
        assert photographs == len(expected)
        assert {told for _, told in parts} == {photographs}


@given(**sizes, **shares, data=st.data())
def test_from_a_later_step_on_it_is_the_tail(rows: int, batch_size: int, processes: int, data: st.DataObject) -> None:
    for batches in batches_of(rows, batch_size, processes):
        everything = list(batches.parts(1))
        first = data.draw(st.integers(0, batches.steps))
        assert list(batches.parts(1, first)) == everything[first:]


@given(rows=st.integers(1, 1000), seed=st.integers(0, 2**31 - 1), epoch=st.integers(0, 1000))
def test_the_order_is_that_of_draws_by_seed_epoch_and_row(rows: int, seed: int, epoch: int) -> None:
    order = EpochBatches(rows, 1000, Share(), seed).order(epoch)
    assert order.dtype == np.int64
    keys = Draws(seed, epoch).uniform(torch.arange(rows), ORDER).tolist()
    assert order.tolist() == sorted(range(rows), key=keys.__getitem__)


@pytest.mark.parametrize("rows", [17, 1000])
def test_another_epoch_and_another_seed_have_another_order(rows: int) -> None:
    orders = [EpochBatches(rows, 8, Share(), seed).order(epoch) for seed in (0, 1, 2) for epoch in (0, 1, 2)]
    assert len({tuple(order) for order in orders}) == 9
    assert len({tuple(EpochBatches(rows, size, Share(), 0).order(2)) for size in (2, 8, 1000)}) == 1


def test_without_a_seed_it_is_the_order_of_the_rows() -> None:
    batches = EpochBatches(7, 3, Share())
    assert list(batches.parts(0)) == list(batches.parts(5))
    assert [own for own, _ in batches.parts(0)] == [[0, 1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize(
    ("rows", "batch_size", "share", "smallest"),
    [
        (10, 2, Share(3, 0), 2),
        (17, 6, Share(6, 1), 5),
        (3, 64, Share(4, 3), 3),
    ],
)
def test_a_batch_that_is_too_small_to_share_is_a_sentence(
    rows: int, batch_size: int, share: Share, smallest: int
) -> None:
    with pytest.raises(
        FacerepError,
        match=rf"batch_size = {batch_size}: a batch of {smallest} photographs cannot be shared by {share.processes} "
        r"processes; make the batches larger or the processes fewer\.",
    ):
        EpochBatches(rows, batch_size, share, seed=0)


# The loader


@pytest.fixture(scope="module")
def pixels(data_folder: Path) -> FacePixels:
    return splits_of(data_folder, train=17)["train"]


def test_the_loader_gives_the_rows_pixels_in_their_order(pixels: FacePixels) -> None:
    batches = EpochBatches(17, 6, Share(2, 1), seed=1)
    got = list(Loader(pixels, batches, torch.device("cpu")).epoch(2, 1))
    expected = list(batches.parts(2, 1))
    assert len(got) == len(expected) == 2
    for part, (rows, photographs) in zip(got, expected, strict=True):
        plain = pixels.__getitems__(rows)
        assert part.batch.samples.tolist() == rows
        assert torch.equal(part.batch.images, plain.images)
        assert torch.equal(part.batch.labels, plain.labels)
        assert part.photographs == photographs


def test_the_loader_of_an_epoch_that_is_done_gives_nothing(pixels: FacePixels) -> None:
    batches = EpochBatches(17, 6, Share(), seed=1)
    assert list(Loader(pixels, batches, torch.device("cpu")).epoch(0, batches.steps)) == []


def test_a_damaged_face_is_still_a_sentence_through_the_loader(data_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "faces"
    broken.mkdir()
    for shard in (data_folder / "faces").glob("*.tar"):
        (broken / shard.name).write_bytes(bytes(shard.stat().st_size))
    pixels = FacePixels(broken, rows_of(data_folder, 0, 8), 32)
    with pytest.raises(FacerepError, match="the shard is damaged"):
        list(Loader(pixels, EpochBatches(8, 4, Share(), seed=0), torch.device("cpu")).epoch())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_faces_that_a_gpu_decodes_are_near_the_processors(data_folder: Path) -> None:
    """A few of 255 off, as two JPEG decoders are where they enlarge colors; and the batches come in the same order."""
    device = torch.device("cuda", torch.cuda.current_device())
    pixels, plain = (FacePixels(data_folder / "faces", rows_of(data_folder, 0, 17), 32) for _ in range(2))
    if not pixels.move_to(device):
        pytest.skip("torchvision without nvJPEG")
    batches = EpochBatches(17, 6, Share(), seed=1)
    for part, (rows, _) in zip(Loader(pixels, batches, device).epoch(2), batches.parts(2), strict=True):
        assert part.batch.samples.tolist() == rows
        assert part.batch.images.device == device
        expected = plain.__getitems__(rows)
        assert torch.equal(part.batch.labels.cpu(), expected.labels)
        off = (part.batch.images.cpu().float() - expected.images.float()).abs()
        others = (part.batch.images.cpu().float() - expected.images.roll(1, 0).float()).abs()
        assert off.mean() < 4 and off.mean() < others.mean() / 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("free_mb", [2**20, 0], ids=["there is room", "there is none"])
def test_faces_that_a_gpu_holds_or_is_sent_are_the_processors(
    free_mb: int, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free_mb * 2**20, 2**40))
    pixels, plain = (FacePixels(data_folder / "faces", rows_of(data_folder, 0, 17), 32, 64) for _ in range(2))
    batches = EpochBatches(17, 6, Share(), seed=1)
    loader = Loader(pixels, batches, device)
    assert pixels.kept is not None and pixels.kept.is_cuda is (free_mb > 0)
    for part, (rows, _) in zip(loader.epoch(2), batches.parts(2), strict=True):
        expected = plain.__getitems__(rows)
        assert part.batch.images.device == part.batch.labels.device == device
        assert torch.equal(part.batch.images.cpu(), expected.images)
        assert torch.equal(part.batch.labels.cpu(), expected.labels)
        assert part.batch.samples.tolist() == rows and not part.batch.samples.is_cuda


def test_on_a_processor_nothing_moves(data_folder: Path) -> None:
    for memory_mb in (0, 64):
        pixels = FacePixels(data_folder / "faces", rows_of(data_folder, 0, 4), 32, memory_mb)
        assert pixels.move_to(torch.device("cpu"))
        assert (pixels.kept is not None) == (memory_mb > 0)
        assert pixels.__getitems__([0, 1]).images.device.type == "cpu"


# Fetched ahead


@given(st.lists(st.integers() | st.none(), max_size=20))
def test_ahead_gives_the_same_items_in_the_same_order(items: list[int | None]) -> None:
    assert list(ahead(iter(items))) == items


def test_ahead_fetches_the_next_item_while_one_is_in_use() -> None:
    """And no more than that one: what is fetched lies in memory."""
    asked: list[int] = []
    second = threading.Event()

    def items() -> Iterator[int]:
        for n in range(5):
            asked.append(n)
            if n == 1:
                second.set()
            yield n

    coming = ahead(items())
    assert next(coming) == 0
    assert second.wait(10), "the second is fetched although nobody has asked for it yet"
    assert asked == [0, 1]
    assert list(coming) == [1, 2, 3, 4]


def test_ahead_passes_an_exception_on_after_what_came_before_it() -> None:
    def items() -> Iterator[int]:
        yield 0
        yield 1
        raise FacerepError("the shard is damaged")

    coming = ahead(items())
    assert [next(coming), next(coming)] == [0, 1]
    with pytest.raises(FacerepError, match="the shard is damaged"):
        next(coming)
    assert list(coming) == []


@pytest.mark.timeout(20)
def test_ahead_does_not_hang_when_it_is_left_in_the_middle() -> None:
    before = threading.active_count()
    for started in (False, True):
        coming = ahead(iter(range(1000)))
        if started:
            next(coming)
        coming.close()
        del coming
    for n in ahead(iter(range(1000))):
        if n == 3:
            break
    gc.collect()
    assert threading.active_count() == before, "no thread is left"


def test_threads_that_open_a_shard_at_once_all_read_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those that decode a batch do; with a moment between what a thread finds, opens and reads."""
    for name in "abcd":
        (tmp_path / name).write_bytes(name.encode() * 100)
    opened, read = Path.open, os.pread

    def opened_later(*how: Any, **more: Any) -> Any:
        time.sleep(0.01)
        return opened(*how, **more)

    def read_later(*place: int) -> bytes:
        time.sleep(0.01)
        return read(*place)

    monkeypatch.setattr(Path, "open", opened_later)
    monkeypatch.setattr(os, "pread", read_later)
    reader = ShardReader(tmp_path)
    shards = list("abcd" * 4)
    with ThreadPoolExecutor(16) as pool:
        got = list(pool.map(lambda shard: reader.read(shard, 10, 5), shards))
    assert got == [shard.encode() * 5 for shard in shards]
