"""Faces cut by many workers, of this machine or of a Dask cluster, that get a few photographs at a time."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from threading import Lock

from facerep.core.pool import ordered, processes
from facerep.crop.cluster import open_cluster, why_lost
from facerep.crop.cut import Face, Photograph, cut_face
from facerep.crop.decode import UnreadableError
from facerep.crop.depth import FULL, Depth
from facerep.params import Crop

CHUNK = 32  # photographs that travel to a worker at once …
CHUNK_BYTES = 16 * 2**20  # … or fewer, when they are large
PRELOAD = ("torch.nn.functional", "scipy.fft", "PIL.Image", "dlib", "simplejpeg")  # read and kept in memory once
Result = Face | str  # a face, or why there is none
_one_at_a_time = Lock()  # in a process: Pillow's limits are global, and a Dask worker may have many threads


def cut_all(
    photos: Iterable[Photograph], settings: Crop, workers: int | None = None, depth: Depth = FULL
) -> Generator[tuple[Photograph, Result], None, None]:
    """Cut the faces where `crop.executor` says; the results come in the order of the photographs, few of them in memory.

    Raises FacerepError when a worker of this machine was killed, or a cluster gives a photograph up. The photographs of a
    Dask worker that was killed are given to another.

    Args:
        photos: taken as they are needed.
        settings: `executor` is `processes`, or the address of a Dask scheduler (`tcp://host:8786`).
        workers: processes on this machine; None: one per core. A cluster has those that it has.
        depth: what is black and white in pictures of more than 8 bits.
    """
    here = settings.executor == "processes"
    chunks = ordered(
        processes(workers, PRELOAD) if here else open_cluster(settings.executor),
        partial(cut_chunk, settings=settings, depth=depth),
        _chunks(photos),
        killed="crop: a worker process was killed, most likely for want of memory; lower crop.max_megapixels.",
        lost=why_lost,
    )
    with closing(chunks):
        for chunk, results in chunks:
            yield from zip(chunk, results, strict=True)


def cut_chunk(photos: list[Photograph], settings: Crop, depth: Depth = FULL) -> list[Result]:
    """What one worker does with one chunk."""
    import torch

    torch.set_num_threads(1)  # the workers have all cores already
    results: list[Result] = []
    with _one_at_a_time:
        for photo in photos:
            try:
                results.append(cut_face(photo, settings, depth))
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
