"""Variants of the same work, each in a process of its own that stays, measured by turns."""

import multiprocessing
import os
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple


class Done(NamedTuple):
    """What a variant has done, and in what time."""

    images: int
    seconds: float


Work = Callable[[int], Done]  # does it so often


def timed(step: Callable[[], Any], images: int) -> Work:
    """Work out of a step that takes `images` images."""

    def work(times: int) -> Done:
        start = time.perf_counter()
        for _ in range(times):
            step()
        return Done(times * images, time.perf_counter() - start)

    return work


class Measured:
    """Some work by name, and what was measured of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.failed: str | None = None  # why
        self.done: list[Done] = []
        self.peak_mb = self.private_mb = float("nan")

    @property
    def rates(self) -> list[float]:
        """Images/s of each measured run; NaN alone where there is none."""
        return [done.images / done.seconds for done in self.done if not self.failed] or [float("nan")]

    @property
    def median(self) -> float:
        """Images/s."""
        return statistics.median(self.rates)

    def run(self, times: int) -> Done | None:
        """Do the work so often; None when it has failed."""
        raise NotImplementedError


class Here(Measured):
    """Work that is done in this process."""

    def __init__(self, name: str, work: Work) -> None:
        super().__init__(name)
        self._work = work

    def run(self, times: int) -> Done:
        """Do the work so often."""
        return self._work(times)


class Variant(Measured):
    """Work in a process of its own. Neither its settings nor its memory touch those of another.

    Args:
        name: shown in the table.
        build: a function at the top of a module, which the process calls with `arguments` and which gives the work.
        optional: whether a failure is noted in `failed` and all else goes on; else it raises RuntimeError.
    """

    def __init__(self, name: str, build: Callable[..., Work], *arguments: Any, optional: bool = False) -> None:
        super().__init__(name)
        self.optional = optional
        spawn = multiprocessing.get_context("spawn")  # a fork would take over threads' locks, and this one's memory
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, build, arguments, optional))
        self._process.start()
        theirs.close()
        self._answer()

    def run(self, times: int) -> Done | None:
        """Have the process do its work so often; None when it has failed."""
        if self.failed:
            return None
        self._pipe.send(times)
        answer = self._answer()
        assert answer is None or isinstance(answer, Done)
        return answer

    def close(self) -> None:
        """End the process; then `peak_mb` is its most memory, `private_mb` what it had last without mapped files, MiB."""
        if not self.failed:
            self._pipe.send(None)
            self.peak_mb, self.private_mb = self._answer() or (self.peak_mb, self.private_mb)
        self._process.join()

    def kill(self) -> None:
        """End the process if it still runs, whatever it does."""
        self._process.kill()
        self._process.join()

    def _answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError:
            answer = RuntimeError("ended without a word, perhaps for want of memory")
        if isinstance(answer, Exception):
            self.failed = " ".join(str(answer).split())[:200]
            if not self.optional:
                raise RuntimeError(f"{self.name}: {self.failed}")
        return answer if not self.failed else None


@contextmanager
def interleaved(
    kinds: dict[str, tuple[Any, ...]], repeats: int, seconds: float, optional: Sequence[str] = ()
) -> Iterator[dict[str, Variant]]:
    """Variants by name, measured: a warm-up each, then A B A B …, `repeats` runs each. Closed when the context ends.

    Args:
        kinds: name: (build, *arguments), as Variant takes them.
        seconds: a run is as many times the work as took so long in the warm-up, at least one.
        optional: the names of those that may fail.
    """
    variants: dict[str, Variant] = {}
    try:
        for name, (build, *arguments) in kinds.items():
            variants[name] = Variant(name, build, *arguments, optional=name in optional)
        measure(list(variants.values()), repeats, seconds)
        for variant in variants.values():
            variant.close()
        yield variants
    finally:
        for variant in variants.values():
            variant.kill()


def measure(works: Sequence[Measured], repeats: int, seconds: float) -> None:
    """As `interleaved` says; the runs go to each one's `done`."""
    times = {}
    for work in works:
        once = work.run(1)  # starts threads, compiles kernels, asks for memory
        if once and once.seconds < seconds:
            once = work.run(1)
        times[work.name] = max(1, round(seconds / once.seconds)) if once else 0
    for _ in range(repeats):
        for work in works:
            done = work.run(times[work.name])
            if done:
                work.done.append(done)


def _serve(pipe: Connection, build: Callable[..., Work], arguments: tuple[Any, ...], optional: bool) -> None:
    os.dup2(2, 1)  # what a peer prints is no part of the result
    try:
        work = build(*arguments)
        pipe.send("ready")
        while (times := pipe.recv()) is not None:
            pipe.send(work(times))
        pipe.send((peak_mb(), status_mb().get("RssAnon", float("nan"))))
    except Exception as error:
        if not optional:
            traceback.print_exc()
        pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))


def peak_mb() -> float:
    """The most memory that this process has had, MiB.

    On Linux the kernel's VmHWM: ru_maxrss starts at what the process had that started this one.
    """
    if "VmHWM" in (status := status_mb()):
        return status["VmHWM"]
    import torch  # here: work that needs no torch starts at once

    from facerep.training.runtime import peak_memory_mb

    return peak_memory_mb(torch.device("cpu"))


def status_mb() -> dict[str, float]:
    """What Linux says of this process's memory, MiB: VmHWM, RssAnon and more; empty elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return {}
    fields = (line.split() for line in lines if line.endswith(" kB"))
    return {name.rstrip(":"): int(kib) / 1024 for name, kib, _ in fields}
