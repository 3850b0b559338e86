"""One thin script per stage, run as `python -m stages.crop`. Here: what each does around its one call."""

# ruff: noqa: E402  # the first import of ours may end this process

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# `dvc exp run --temp` runs a copy of the repository: use the copy's src, not the one that is installed.
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from facerep.core.handover import handed_over

if (status := handed_over(ROOT)) is not None:  # another process, which has imported everything, has done it
    sys.exit(status)

# isort: split
import facerep.resume.stopping  # noqa: F401  # first: it notes which process started this one

# isort: split
from facerep.core.errors import FacerepError
from facerep.core.files import disk_full_named, is_main_process, write_json
from facerep.core.refusals import refusals_named
from facerep.params import Params, load_params


def run(name: str, stage: Callable[[Params], dict[str, Any]]) -> None:
    """Check params.yaml, run the stage, write metrics/<name>.json; a FacerepError becomes its sentence and exit code 1.

    What the metrics have as `notes`, sentences on what is worth a look, is said as well.

    Of the processes that a launcher started, the first alone writes.
    """
    signal.signal(signal.SIGTERM, _terminated)  # training has its own, which saves
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # what is said is seen at once, in a log too
    try:
        with disk_full_named(Path.cwd()), refusals_named():
            metrics = stage(load_params())
            if is_main_process():
                write_json(f"metrics/{name}.json", metrics)
                for note in metrics.get("notes", ()):
                    print(f"{name}: {note}", file=sys.stderr)
    except FacerepError as error:
        sys.exit(f"{name}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{name}: stopped by Ctrl-C; run the same command again.")


def _terminated(*_: object) -> None:
    raise FacerepError("stopped by SIGTERM; run the same command again.")
