"""A Dask cluster in the place of this machine's processes, behind the one interface of concurrent.futures."""

from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Executor
from contextlib import contextmanager
from typing import Any

from facerep.core.errors import FacerepError
from facerep.crop.cut import Photograph
from facerep.crop.parts import cutting_code

PATIENCE = 20  # seconds that a cluster may take to answer


@contextmanager
def open_cluster(address: str) -> Iterator[tuple[Executor, int]]:
    """The executor of the scheduler at `address`, whose workers have facerep installed, and how many threads they have.

    Raises FacerepError when the cluster does not answer, has no workers, or has workers with other code.
    """
    with _client(address) as client:
        threads = client.nthreads()
        if not threads:
            raise FacerepError(
                f"crop.executor = {address}: the cluster has no workers; start some with `dask worker {address}`."
            )
        others = _others(client)
        if others:
            raise FacerepError(
                f"crop.executor = {address}: {', '.join(others)} runs another version of facerep (or none), or of the "
                "libraries that cut, and may cut other bytes; install this one's requirements.lock there and start the "
                "worker again."
            )
        executor = client.get_executor(pure=False, retries=3)
        try:
            yield executor, sum(threads.values())
        finally:
            executor.shutdown(wait=False)


def why_lost(photos: Sequence[Photograph], error: Exception) -> str | None:
    """The sentence for photographs that the cluster did not cut; None where the error is not its own."""
    if isinstance(error, CancelledError):
        return "crop: the Dask cluster went away; start it and run the same command again."
    if type(error).__module__.partition(".")[0] == "distributed":
        return (
            f"crop: the Dask cluster gave up on {photos[0].name} and the {len(photos) - 1} photographs after it "
            f"({type(error).__name__}: its workers were killed again and again, most likely for want of memory)."
        )
    return None


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
