"""What `make demo` closes with: the metrics, and where pictures and models lie. `python -m facerep.summary`."""

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from facerep.core.errors import FacerepError
from facerep.params import load_params

PLACES = (
    ("pictures", "metrics/evaluate/"),
    ("curves", "metrics/pretrain/, metrics/finetune/"),
    ("pretrained model", "models/pretrained/"),
    ("fine-tuned model", "models/finetuned/"),
    ("metrics", "metrics/*.json   (dvc metrics show)"),
)


def summary(metrics: Path) -> Table:
    """The short table of a finished run. Raises FacerepError where a stage has not run yet."""
    crop, select, pretrain, evaluate = (
        _read(metrics / f"{stage}.json") for stage in ("crop", "select", "pretrain", "evaluate")
    )
    params = load_params()
    low, high = evaluate["test"]["accuracy_ci95"]
    roles = select["roles"]
    title = f"facerep: profile {params.profile}, pretext {pretrain['pretext']}, seed {params.seed}"
    table = Table(title=title, show_header=False)
    table.add_column("")
    table.add_column("")
    table.add_row("photographs", f"{crop['photographs']}, {crop['unreadable']['count']} of them unreadable")
    counts = ", ".join(f"{role} {part['photographs']}" for role, part in roles.items())
    table.add_row("used", f"{counts}; {select['labelled_identities']} labelled identities")
    if "val" in pretrain:
        scores = ", ".join(f"{k} {v:.3f}" for k, v in pretrain["val"].items() if k != "photographs")
        table.add_row("pretext, held-out faces", scores)
    table.add_section()
    table.add_row("test accuracy, fine-tuned", f"{evaluate['test']['accuracy']:.3f}  (95 % {low:.3f} to {high:.3f})")
    table.add_row("test top 5", f"{evaluate['test']['top5']:.3f}")
    probes = ", ".join(f"{n}: {value:.3f}" for n, value in evaluate["probe"]["by_labels"].items())
    table.add_row("linear probe, pretrained", f"{evaluate['probe']['accuracy']:.3f}  (by labels an identity {probes})")
    table.add_row("nearest neighbours, pretrained", f"{evaluate['knn']['accuracy']:.3f}")
    table.add_row("nearest neighbour, raw pixels", f"{evaluate['knn']['accuracy_raw_pixels']:.3f}")
    pairs = evaluate["verification"]
    table.add_row("verification, pretrained", f"AUC {pairs['auc']:.3f}, EER {pairs['eer']:.3f}")
    table.add_section()
    for name, place in PLACES:
        table.add_row(name, place)
    return table


def _read(path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FacerepError(f"{path}: not there; run `dvc repro`.") from None
    return value


if __name__ == "__main__":
    try:
        Console().print(summary(Path("metrics")))
    except FacerepError as error:
        sys.exit(str(error))
