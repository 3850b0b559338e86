"""Work that many processes do: the results come in the order of the work, and little of it is in memory."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from facerep.core.cores import cores
from facerep.core.errors import FacerepError

AHEAD = 2  # pieces of work for each worker that wait or are done, until the first of them is taken
Piece = TypeVar("Piece")
Result = TypeVar("Result")


@contextmanager
def processes(workers: int | None = None, preload: Sequence[str] = ()) -> Iterator[tuple[Executor, int]]:
    """Processes on this machine, and how many.

    Args:
        workers: None: one per core.
        preload: modules that the server, of which workers are forked, imports once, where it does not run yet. None of
            facerep's: it would take them from where they are installed, and not from the copy of the repository that an
            experiment runs in.
    """
    workers = workers or cores()
    # no fork: it would copy threads' locks, of progress bars and of torch
    context = multiprocessing.get_context("spawn" if os.name == "nt" else "forkserver")
    if preload and os.name != "nt":
        context.set_forkserver_preload(list(preload))
    pool = ProcessPoolExecutor(workers, mp_context=context)
    try:
        yield pool, workers
    finally:
        pool.shutdown(cancel_futures=True)


def ordered(
    opening: AbstractContextManager[tuple[Executor, int]],
    function: Callable[[Piece], Result],
    pieces: Iterable[Piece],
    *,
    killed: str,
    lost: Callable[[Piece, Exception], str | None] = lambda piece, error: None,
) -> Generator[tuple[Piece, Result], None, None]:
    """Each piece of work with its result, in the order of the pieces, which are taken as they are needed.

    Args:
        opening: an executor and how many workers it has; entered for the first piece, left at the end.
        function: makes the result of a piece. It travels to the workers: one of a module, or a partial of one.
        pieces: the work.
        killed: the sentence for a worker process that was killed.
        lost: the sentence for another error with which the executor gives a piece up; None: the function's own error.

    Raises FacerepError with these sentences, and what the function raises.
    """
    waiting: deque[tuple[Piece, Future[Result]]] = deque()
    with opening as (executor, workers):
        try:
            for piece in pieces:
                waiting.append((piece, executor.submit(function, piece)))
                if len(waiting) > AHEAD * workers:
                    yield _finished(*waiting.popleft(), lost)
            while waiting:
                yield _finished(*waiting.popleft(), lost)
        except BrokenExecutor:
            raise FacerepError(killed) from None
        finally:
            for _, future in waiting:
                future.cancel()


def _finished(
    piece: Piece, future: "Future[Result]", lost: Callable[[Piece, Exception], str | None]
) -> tuple[Piece, Result]:
    try:
        return piece, future.result()
    except BrokenExecutor:
        raise
    except Exception as error:
        sentence = lost(piece, error)
        if sentence is None:
            raise
        raise FacerepError(sentence) from None
