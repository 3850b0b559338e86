"""Where faces are cut: processes on this machine, or a Dask cluster, behind the one interface of concurrent.futures."""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

from facerep.core.cores import cores
from facerep.core.errors import FacerepError
from facerep.crop.parts import cutting_code

PATIENCE = 20  # seconds that a cluster may take to answer


@contextmanager
def open_executor(name: str, workers: int | None = None) -> Iterator[tuple[Executor, int]]:
    """The executor that `crop.executor` names, and how many workers it has.

    Args:
        name: `processes`, or the address of a Dask scheduler (`tcp://host:8786`), whose workers have facerep installed.
        workers: processes on this machine; None: one a core. A cluster has those that it has.

    Raises FacerepError when the cluster does not answer, has no workers, or has workers with other code.
    """
    if name == "processes":
        workers = workers or cores()
        # no fork: it would copy threads' locks, of progress bars and of torch
        context = multiprocessing.get_context("spawn" if os.name == "nt" else "forkserver")
        if os.name != "nt":
            # read and kept in memory once; nothing of facerep's, which the server would take from where it is installed,
            # and not from the copy of the repository that an experiment runs in
            context.set_forkserver_preload(["torch.nn.functional", "scipy.fft", "PIL.Image", "dlib", "simplejpeg"])
        pool = ProcessPoolExecutor(workers, mp_context=context)
        try:
            yield pool, workers
        finally:
            pool.shutdown(cancel_futures=True)
        return
    with _client(name) as client:
        threads = client.nthreads()
        if not threads:
            raise FacerepError(
                f"crop.executor = {name}: the cluster has no workers; start some with `dask worker {name}`."
            )
        others = _others(client)
        if others:
            raise FacerepError(
                f"crop.executor = {name}: {', '.join(others)} runs another version of facerep (or none), or of the "
                "libraries that cut, and may cut other bytes; install this one's requirements.lock there and start the "
                "worker again."
            )
        executor = client.get_executor(pure=False, retries=3)
        try:
            yield executor, sum(threads.values())
        finally:
            executor.shutdown(wait=False)


def _others(client: Any) -> list[str]:
    """The workers that would not cut what this process would; all of them, where one has no facerep at all."""
    ours = cutting_code()
    try:
        return sorted(worker for worker, theirs in client.run(cutting_code).items() if theirs != ours)
    except Exception as error:  # distributed wraps what a worker without facerep raises
        if "ModuleNotFoundError" not in repr(error):
            raise
        return sorted(client.scheduler_info()["workers"])


@contextmanager
def _client(address: str) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError:
        raise FacerepError(
            f"crop.executor = {address}: Dask is not installed; run `pip install facerep[dask]`, or set it to processes."
        ) from None
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise FacerepError(
            f"crop.executor = {address}: no Dask scheduler answers there ({' '.join(str(error).split())[:120]}); start one "
            "with `dask scheduler`, or set it to processes."
        ) from None
    with client:
        yield client
