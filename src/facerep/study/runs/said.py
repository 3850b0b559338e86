"""What a study says while its runs are made: a bar on a terminal, and lines where the output goes into a file."""

import math
import sys
from types import TracebackType

from facerep.core.progress import progress_bar


class Said:
    """How far a batch of runs is. Use as a context manager."""

    def __init__(self, title: str, total: int, ended: int = 0) -> None:
        self.title, self.total, self.ended = title, total, ended
        self.lines = not sys.stdout.isatty()
        self._bar = progress_bar(shown=sys.stderr.isatty())
        self._bar.speed_estimate_period = math.inf  # a run takes longer than the half minute that rich looks back
        self._task = self._bar.add_task(title, total=total)

    def __enter__(self) -> "Said":
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def left(self, number: int) -> None:
        """So many runs have not ended yet."""
        self._bar.update(self._task, completed=self.total - number)

    def start(self, name: str) -> None:
        """A run has started."""
        self._line(f"{name} started")

    def end(self, name: str, seconds: float | None, score: float | None, measure: str = "") -> None:
        """A run has ended; `score` is that of `measure` on val, None where it failed."""
        self.ended += 1
        how = "failed" if score is None else f"done, {measure.replace('_', ' ')} on val {100 * score:.1f} %"
        took = "" if seconds is None else f" in {seconds:.0f} s"
        self._line(f"{self.ended} of {self.total}: {name} {how}{took}")

    def _line(self, text: str) -> None:
        if self.lines:
            print(f"{self.title}: {text}", flush=True)
