"""No stage, but a process that has imported them all: `python -m stages.warm SOCKET` forks for each that asks there.

A study starts it (facerep.study.runs.warm), so that its runs need not import for as long as they train.
"""

import gc
import importlib
import runpy
import shutil
import signal
import sys
from pathlib import Path

from facerep.core.handover import serve
from facerep.resume import stopping

STAGES = {f"stages.{name}" for name in ("select", "pretrain", "probe", "finetune", "evaluate")}
# what these import no sooner than they need it
LATER = (
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "matplotlib.font_manager",
    "scipy.special",
    "sklearn.linear_model",
    "sklearn.metrics",
    "torch._dynamo",
)


def do(stage: str, asker: int) -> None:
    """Run a stage as `python -m` would, for the process `asker`."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    stopping.started_for(asker)
    sys.argv = [stage]
    del sys.modules[stage]  # imported as a module, now run as a script
    runpy.run_module(stage, run_name="__main__", alter_sys=True)


def main(place: Path, root: Path) -> None:
    """Import all, then serve; not where there is a GPU, which no fork can share. `root` holds this code."""
    for name in (*sorted(STAGES), *LATER):
        importlib.import_module(name)
    torch = importlib.import_module("torch")
    if torch.cuda.is_available():
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end of the study ends it
    gc.collect()
    gc.freeze()  # else a fork's collector would copy all of these pages
    serve(place, root, STAGES, do)


if __name__ == "__main__":
    door = Path(sys.argv[1])
    root = Path(__file__).resolve().parents[1]
    try:
        main(door, root)
    finally:
        if door.parent == root:  # a copy of the code for this process alone
            shutil.rmtree(root)
