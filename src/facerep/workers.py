"""Faces cut on all cores: processes that get a few photographs at a time, and results in the photographs' order."""

import multiprocessing
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from facerep.cores import cores
from facerep.decode import UnreadableError
from facerep.errors import FacerepError
from facerep.face import Face, Photograph, cut_face
from facerep.params import Crop

CHUNK = 32  # photographs that travel to a worker at once …
CHUNK_BYTES = 16 * 2**20  # … or fewer, when they are large
Result = Face | str  # a face, or why there is none


def cut_all(
    photos: Iterable[Photograph], settings: Crop, workers: int | None = None
) -> Generator[tuple[Photograph, Result], None, None]:
    """Cut the faces on all cores; the results come in the order of the photographs, with few of them in memory.

    Raises FacerepError when a worker was killed.
    """
    workers = workers or cores()
    # no fork: it would copy threads' locks, of progress bars and of torch
    context = multiprocessing.get_context("spawn" if os.name == "nt" else "forkserver")
    pool = ProcessPoolExecutor(workers, mp_context=context)
    waiting: deque[tuple[list[Photograph], Future[list[Result]]]] = deque()
    try:
        for chunk in _chunks(photos):
            waiting.append((chunk, pool.submit(cut_chunk, chunk, settings)))
            if len(waiting) > 2 * workers:
                yield from _finish(*waiting.popleft())
        while waiting:
            yield from _finish(*waiting.popleft())
    except BrokenProcessPool:
        raise FacerepError(
            "crop: a worker process was killed, most likely for want of memory; lower crop.max_megapixels."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def cut_chunk(photos: list[Photograph], settings: Crop) -> list[Result]:
    """What one worker does with one chunk."""
    results: list[Result] = []
    for photo in photos:
        try:
            results.append(cut_face(photo, settings))
        except UnreadableError as reason:
            results.append(str(reason))
    return results


def _chunks(photos: Iterable[Photograph]) -> Iterator[list[Photograph]]:
    chunk: list[Photograph] = []
    size = 0
    for photo in photos:
        chunk.append(photo)
        size += len(photo.data)
        if len(chunk) == CHUNK or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _finish(chunk: list[Photograph], future: "Future[list[Result]]") -> Iterator[tuple[Photograph, Result]]:
    return zip(chunk, future.result(), strict=True)
