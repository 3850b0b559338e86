"""select: which faces are used, and for what."""

from pathlib import Path
from typing import Any

from facerep.params import Params
from facerep.resume.unfinished import discard_finished
from facerep.select.excluded import read_excluded
from facerep.select.pretraining import Besides
from facerep.select.samples import draw_classes
from facerep.select.sheets import draw_sheets
from facerep.select.stage import select
from stages import run

FACES, SELECTION, DROPPED = Path("data/faces"), Path("data/selection.parquet"), Path("data/dropped.parquet")


def stage(params: Params) -> dict[str, Any]:
    """Choose, and show the classes and what the rules dropped."""
    discard_finished("crop")  # DVC has the faces by now
    index = FACES / "index.parquet"
    metrics = select(
        params.select,
        params.seed,
        index,
        SELECTION,
        DROPPED,
        FACES / "classes.parquet",
        excluded=read_excluded(Path(params.select.exclude)),
        besides=Besides(params.pretrain.include_labelled, params.pretrain.score_knn_every > 0),
    )
    draw_sheets(DROPPED, FACES, Path("metrics/select"))
    draw_classes(SELECTION, FACES, Path("metrics/select/classes.png"))
    return metrics


if __name__ == "__main__":
    run("select", stage)
