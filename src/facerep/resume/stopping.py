"""A request to stop: SIGTERM, Ctrl-C, or the end of the process that started this one; and many processes' agreement."""

import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

if TYPE_CHECKING:  # the stages that do not train import this too, and can do without torch
    from accelerate import Accelerator

# Steps between two questions of many processes whether to stop or to save. A GPU waits for each answer; a launcher
# grants 30 s after SIGTERM.
AGREE_EVERY = {"cpu": 1, "cuda": 4, "mps": 4}
# The end of an epoch is saved when so many times what the last checkpoint took have gone by: few labels make short epochs.
TIMES_WHAT_A_SAVE_TAKES = 20


def _find_starter(of: int | None = None) -> psutil.Process | None:
    """DVC where it is among our ancestors, else our parent; None where we have none (the first process of a container).

    Ours, or those of the process with the id `of`.

    Between DVC and us may stand a shell, which /bin/sh often is, or a launcher: these live on when DVC is killed.
    """
    parent = None
    with suppress(psutil.Error):  # where others' processes are hidden, or one ends meanwhile
        process = psutil.Process(of)
        while (above := process.parent()) is not None:
            if _is_dvc(above):
                return above
            parent, process = parent or above, above
    return parent


def _is_dvc(process: psutil.Process) -> bool:
    """Whether it runs as `dvc …`, `python …/dvc …` or `python -m dvc …`, perhaps with an option of Python's."""
    with suppress(psutil.Error):
        return "dvc" in (os.path.basename(word) for word in process.cmdline()[:4])  # noqa: PTH119  # words, not paths
    return False


_starter = _find_starter()  # when this was imported: first of all, in a stage


def _forked() -> None:
    global _starter
    _starter = _find_starter()


os.register_at_fork(after_in_child=_forked)


def started_for(process: int) -> None:
    """From now on, who started the process with this id counts as who started this one: it works in its place."""
    global _starter
    _starter = _find_starter(process)


class StopRequest:
    """Inside its context, SIGTERM and Ctrl-C no longer end the process at once: they are noted in `reason`.

    The end of DVC (or, without DVC, of the parent process) counts too: a `dvc repro` that was killed leaves nobody to
    take the results, and the next one would wait for this process.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._starter = _starter
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # only there may handlers be set
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def asked(self) -> bool:
        """Whether somebody has asked."""
        if self.reason is None and self._starter is not None and _has_ended(self._starter):
            self.reason = "the end of the process that started it"
        return self.reason is not None

    def _note(self, number: int, _: FrameType | None) -> None:
        self.reason = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


class Wanted(NamedTuple):
    """What a training is to do now."""

    stop: bool = False
    save: bool = False


class Agreement:
    """Whether to stop, and whether it is time to save: the same answer for all processes that train together.

    Args:
        request: what this process knows of a wish to stop; one process is enough to stop all.
        save_every_s: seconds between two checkpoints; the main process has the clock.
    """

    def __init__(self, request: StopRequest, accelerator: "Accelerator", save_every_s: float) -> None:
        self.request, self.accelerator, self.save_every_s = request, accelerator, save_every_s
        self._last_save, self._took = time.monotonic(), 0.0
        self._asked, self._agreed = 0, Wanted()

    @property
    def reason(self) -> str:
        """Why to stop, in words."""
        return self.request.reason or "another process"

    def wanted(self) -> Wanted:
        """The answer; every process must ask equally often."""
        due = time.monotonic() - self._last_save >= self.save_every_s
        own = Wanted(self.request.asked(), due and self.accelerator.is_main_process)
        if self.accelerator.num_processes == 1:
            return own
        self._asked += 1
        if self._asked % AGREE_EVERY[self.accelerator.device.type] == 0:
            import torch

            together = torch.tensor(own, dtype=torch.int32, device=self.accelerator.device)
            self._agreed = Wanted(*(bool(n) for n in self.accelerator.reduce(together, "sum").tolist()))
        return self._agreed

    def worth_saving(self) -> bool:
        """Whether a checkpoint costs little now, as at the end of an epoch; every process must ask equally often.

        The first always does: nobody knows yet what it takes.
        """
        gone_by = time.monotonic() - self._last_save
        answer = [gone_by >= TIMES_WHAT_A_SAVE_TAKES * self._took]
        if self.accelerator.num_processes > 1:
            from accelerate.utils import broadcast_object_list

            broadcast_object_list(answer)  # the main process's
        return answer[0]

    def saved(self, took: float) -> None:
        """A checkpoint was saved, in `took` seconds: the time to the next one begins."""
        self._last_save, self._took = time.monotonic(), took
        self._agreed = self._agreed._replace(save=False)


def _has_ended(process: psutil.Process) -> bool:
    """Whether it is gone, or a zombie that nobody has asked for yet."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False
