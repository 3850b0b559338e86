"""Ordered work by many workers: order, what waits, and what is said of workers that die."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial

import psutil
import pytest

from facerep.core.errors import FacerepError
from facerep.core.pool import AHEAD, ordered, processes

KILLED = "a worker was killed; start again."


def slow_first(piece: int) -> int:
    """Later pieces are ready earlier."""
    time.sleep(0.02 * (4 - piece % 5))
    return piece * piece


def dies(piece: int) -> int:
    if piece == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return piece


def fails(piece: int, at: int) -> int:
    if piece == at:
        raise ValueError(f"piece {piece}")
    return piece


def worker(piece: int) -> int:
    return os.getpid()


@contextmanager
def threads(number: int = 2) -> Iterator[tuple[Executor, int]]:
    with ThreadPoolExecutor(number) as pool:
        yield pool, number


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_the_order_of_the_pieces(workers: int) -> None:
    done = list(ordered(processes(workers), slow_first, range(11), killed=KILLED))
    assert done == [(piece, piece * piece) for piece in range(11)]


def test_no_piece_is_no_result() -> None:
    assert list(ordered(processes(2), slow_first, [], killed=KILLED)) == []


def test_few_pieces_wait() -> None:
    taken: list[int] = []

    def pieces() -> Iterator[int]:
        for piece in range(100):
            taken.append(piece)
            yield piece

    results = ordered(threads(), abs, pieces(), killed=KILLED)
    assert not taken, "nothing is done before the first is asked for"
    for number, _ in enumerate(results, 1):
        assert len(taken) <= number + AHEAD * 2
    assert len(taken) == 100


def test_a_worker_that_is_killed_is_a_sentence() -> None:
    with pytest.raises(FacerepError, match=f"^{KILLED}$"):
        list(ordered(processes(2), dies, range(50), killed=KILLED))


def test_what_the_function_raises_comes_through_after_the_results_before_it() -> None:
    got = []
    with pytest.raises(ValueError, match="piece 4"):
        for piece, _ in ordered(processes(2), partial(fails, at=4), range(50), killed=KILLED):
            got.append(piece)
    assert got == [0, 1, 2, 3]


def test_the_caller_says_what_another_error_of_the_executor_means() -> None:
    def lost(piece: int, error: Exception) -> str | None:
        return f"{piece} is lost." if isinstance(error, ValueError) else None

    with pytest.raises(FacerepError, match=r"^4 is lost\.$"):
        list(ordered(threads(), partial(fails, at=4), range(50), killed=KILLED, lost=lost))
    with pytest.raises(TypeError):
        list(ordered(threads(), partial(fails, att=4), range(50), killed=KILLED, lost=lost))  # type: ignore[call-arg]


def test_who_stops_early_leaves_no_worker() -> None:
    with closing(ordered(processes(2), worker, range(10**9), killed=KILLED)) as results:
        pids = {pid for _, (_, pid) in zip(range(20), results, strict=False)}
        assert os.getpid() not in pids
        assert any(psutil.pid_exists(pid) for pid in pids)
    assert not any(psutil.pid_exists(pid) for pid in pids)
