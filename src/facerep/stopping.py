"""A request to stop: SIGTERM, Ctrl-C, or the end of the process that started this one."""

import os
import signal
import threading
from types import FrameType
from typing import Any

_parent = os.getppid()  # when this was imported: first of all, in a stage


def _forked() -> None:
    global _parent
    _parent = os.getppid()


os.register_at_fork(after_in_child=_forked)


class StopRequest:
    """Inside its context, SIGTERM and Ctrl-C no longer end the process at once: they are noted in `reason`.

    The end of the parent process counts too: a `dvc repro` that was killed leaves nobody to take the results, and the
    next one would wait for this process.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._parent = _parent
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
        if self.reason is None and os.getppid() != self._parent:
            self.reason = "the end of the process that started it"
        return self.reason is not None

    def _note(self, number: int, _: FrameType | None) -> None:
        self.reason = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
