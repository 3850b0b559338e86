"""select: which faces are used, and for what."""

from pathlib import Path
from typing import Any

from facerep.params import Params
from facerep.resume.unfinished import discard_finished
from facerep.select.sheets import draw_sheets
from facerep.select.stage import select
from stages import run

FACES, DROPPED = Path("data/faces"), Path("data/dropped.parquet")


def stage(params: Params) -> dict[str, Any]:
    """Choose, and show what the rules dropped."""
    discard_finished("crop")  # DVC has the faces by now
    index = FACES / "index.parquet"
    metrics = select(params.select, params.seed, index, Path("data/selection.parquet"), DROPPED)
    draw_sheets(DROPPED, FACES, Path("metrics/select"))
    return metrics


if __name__ == "__main__":
    run("select", stage)
