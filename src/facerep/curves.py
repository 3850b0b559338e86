"""The curves of training: one table a measure, which `dvc plots` draws, and what a stage reports of them."""

from pathlib import Path
from typing import Any, NamedTuple

from dvclive import Live

from facerep.figures import draw_curves
from facerep.files import write_json
from facerep.pixels import FacePixels

History = list[dict[str, float]]  # a row an epoch: `epoch` (from 1), `learning_rate`, `<split>/<measure>`


class Fit(NamedTuple):
    """What training gives: the curves, the epoch whose weights the model now holds (from 1), and how fast it was."""

    history: History
    best_epoch: int
    speed: dict[str, Any]


class Curves:
    """dvclive's tables in a folder, or nothing (None). DVC itself saves the experiment, and dvc.yaml is ours."""

    def __init__(self, folder: Path | None) -> None:
        self.live = None
        if folder is not None:
            self.live = Live(dir=str(folder), dvcyaml=False, save_dvc_exp=False, report=None)

    def __enter__(self) -> "Curves":
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.end()

    def add(self, row: dict[str, float]) -> None:
        """Write the measures of an epoch; row["epoch"] counts from 1."""
        if self.live is None:
            return
        self.live.step = int(row["epoch"])
        for measure, value in row.items():
            if measure != "epoch":
                self.live.log_metric(measure, value)
        self.live.make_summary()


def report(result: Fit | None, splits: dict[str, FacePixels], folder: Path, title: str) -> dict[str, Any]:
    """What a training stage tells of its run: the measures of the epoch that was kept, a split each, for its metrics.

    Writes curves.json (the history; empty when nothing was trained) and curves.svg into `folder`.
    """
    write_json(folder / "curves.json", result.history if result is not None else [])
    if result is None:
        return {"epochs": 0}
    draw_curves(result.history, folder / "curves.svg", title, result.best_epoch)
    kept = result.history[result.best_epoch - 1]
    metrics: dict[str, Any] = {"epochs": len(result.history), "best_epoch": result.best_epoch}
    for split, pixels in splits.items():
        measures = {key.removeprefix(f"{split}/"): value for key, value in kept.items() if key.startswith(f"{split}/")}
        metrics[split] = {"photographs": len(pixels), **measures}
    return metrics
