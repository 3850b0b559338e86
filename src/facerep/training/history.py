"""The curves of training: tables that `dvc plots` draws, and what a stage reports of them."""

import csv
from pathlib import Path
from typing import Any, NamedTuple

from facerep.core.files import atomic, write_json
from facerep.faces.pixels import FacePixels

# a row for each epoch: `epoch` (from 1; 0: before the first step), `learning_rate` of the step that comes next,
# `<split>/<measure>`; when training has ended, `kept` = 1 in one
History = list[dict[str, float]]


class Fit(NamedTuple):
    """What training gives: the curves, when the weights that the model now holds were reached, and how fast it was."""

    history: History
    kept_epoch: int  # as many had ended
    kept_step: int  # as many were done
    speed: dict[str, Any]  # with the precision, bf16 or fp32: what `auto` came to


def write_curves(history: History, folder: Path) -> None:
    """Write curves.json, the history, and a table for each split: <split>.csv, a row for each epoch that scored it.

    `dvc plots` wants every measure in every row, so one table cannot hold all splits. Each file is whole at any time;
    the tables of another history are gone.
    """
    write_json(folder / "curves.json", history)
    splits = sorted({key.partition("/")[0] for row in history for key in row if "/" in key})
    for table in folder.glob("*.csv"):
        if table.stem not in splits:
            table.unlink()
    for split in splits:
        rows = [_of_split(row, split) for row in history if _measures(row, split)]
        with atomic(folder / f"{split}.csv") as part, part.open("w", newline="", encoding="utf-8") as file:
            columns = list(dict.fromkeys(name for row in rows for name in row))  # what is measured less often has gaps
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def _of_split(row: dict[str, float], split: str) -> dict[str, float]:
    """The epoch and the split's measures; the learning rate is training's."""
    rate = {"learning_rate": row["learning_rate"]} if split == "train" else {}
    return {"epoch": int(row["epoch"]), **_measures(row, split), **rate}


def _measures(row: dict[str, float], split: str) -> dict[str, float]:
    """Those of one split, by their names alone."""
    return {key.removeprefix(f"{split}/"): value for key, value in row.items() if key.startswith(f"{split}/")}


def report(result: Fit | None, splits: dict[str, FacePixels], folder: Path) -> dict[str, Any]:
    """What a training stage tells of its run: the measures of the epoch that was kept, one per split, for its metrics.

    Writes the curves into `folder`, the kept epoch marked; an empty curves.json when nothing was trained.
    """
    if result is None:
        write_curves([], folder)
        return {"epochs": 0}
    (kept,) = (row for row in result.history if row["epoch"] == result.kept_epoch)
    write_curves([row | {"kept": 1.0} if row is kept else row for row in result.history], folder)
    metrics: dict[str, Any] = {"epochs": int(result.history[-1]["epoch"])}
    metrics |= {"kept_epoch": result.kept_epoch, "kept_step": result.kept_step}
    metrics["precision"] = result.speed["precision"]
    for split, pixels in splits.items():
        metrics[split] = {"photographs": len(pixels), **_measures(kept, split)}
    return metrics
