"""One look for every progress bar, quiet where nobody watches a terminal line by line."""

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


def progress_bar(shown: bool = True) -> Progress:
    """A rich Progress with count, share and time left. Use as a context manager: `with progress_bar() as bar`."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        refresh_per_second=2,  # ten, its default, cost a training step one part in a hundred
        disable=not shown,
    )
