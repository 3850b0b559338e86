"""Faces cut by many workers, that get a few photographs at a time, and results in the photographs' order."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Future
from threading import Lock

from facerep.core.errors import FacerepError
from facerep.crop.cut import Face, Photograph, cut_face
from facerep.crop.decode import UnreadableError
from facerep.crop.executors import open_executor
from facerep.params import Crop

CHUNK = 32  # photographs that travel to a worker at once …
CHUNK_BYTES = 16 * 2**20  # … or fewer, when they are large
Result = Face | str  # a face, or why there is none
_one_at_a_time = Lock()  # in a process: Pillow's limits are global, and a Dask worker may have many threads


def cut_all(
    photos: Iterable[Photograph], settings: Crop, workers: int | None = None
) -> Generator[tuple[Photograph, Result], None, None]:
    """Cut the faces where `crop.executor` says; the results come in the order of the photographs, few of them in memory.

    Raises FacerepError when a worker of this machine was killed, or a cluster gives a photograph up. The photographs of a
    Dask worker that was killed are given to another.
    """
    waiting: deque[tuple[list[Photograph], Future[list[Result]]]] = deque()
    with open_executor(settings.executor, workers) as (executor, number):
        try:
            for chunk in _chunks(photos):
                waiting.append((chunk, executor.submit(cut_chunk, chunk, settings)))
                if len(waiting) > 2 * number:
                    yield from _finish(*waiting.popleft())
            while waiting:
                yield from _finish(*waiting.popleft())
        except BrokenExecutor:
            raise FacerepError(
                "crop: a worker process was killed, most likely for want of memory; lower crop.max_megapixels."
            ) from None
        finally:
            for _, future in waiting:
                future.cancel()


def cut_chunk(photos: list[Photograph], settings: Crop) -> list[Result]:
    """What one worker does with one chunk."""
    import torch

    torch.set_num_threads(1)  # the workers have all cores already
    results: list[Result] = []
    with _one_at_a_time:
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
    try:
        return zip(chunk, future.result(), strict=True)
    except BrokenExecutor:
        raise
    except CancelledError:
        raise FacerepError("crop: the Dask cluster went away; start it and run the same command again.") from None
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "distributed":
            raise
        raise FacerepError(
            f"crop: the Dask cluster gave up on {chunk[0].name} and the {len(chunk) - 1} photographs after it "
            f"({type(error).__name__}: its workers were killed again and again, most likely for want of memory)."
        ) from None
