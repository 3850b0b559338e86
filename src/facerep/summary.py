"""What `make demo` closes with: the metrics, and where pictures and models lie. Also `facerep summary`."""

import json
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from facerep.core.errors import FacerepError
from facerep.params import load_params

PLACES = (
    ("pictures and curves", "metrics/probe/, metrics/evaluate/"),
    ("pretrained model", "models/pretrained/"),
    ("fine-tuned model", "models/finetuned/"),
    ("metrics", "metrics/*.json   (dvc metrics show)"),
)


def summary(metrics: Path) -> Table:
    """The short table of a finished run. Raises FacerepError where a stage has not run yet."""
    params = load_params()  # first: it says where to run from
    crop, select, pretrain, probe, evaluate = (
        _read(metrics / f"{stage}.json") for stage in ("crop", "select", "pretrain", "probe", "evaluate")
    )
    test = evaluate["test"]
    roles = select["roles"]
    title = f"facerep: pretext {escape(pretrain['pretext'])}, seed {params.seed}"
    table = Table(title=title, show_header=False)
    table.add_column("")
    table.add_column("")
    table.add_row("photographs", f"{crop['photographs']}, {crop['unreadable']['count']} of them unreadable")
    by_folder = params.select.roles == "by_folder"  # its classes need not be people
    named, each = ("classes", "class") if by_folder else ("labelled identities", "identity")
    counts = ", ".join(f"{role} {part['photographs']}" for role, part in roles.items())
    table.add_row("used", f"{counts}; {select['labelled_identities']} {named}")
    for note in (*crop.get("notes", ()), *select.get("notes", ())):
        table.add_row("worth a look", escape(note))
    if "val" in pretrain:
        scores = ", ".join(f"{k} {v:.3f}" for k, v in pretrain["val"].items() if k != "photographs")
        table.add_row("pretext, held-out faces", scores)
    table.add_section()
    for name in ("accuracy", "balanced accuracy"):
        key = name.replace(" ", "_")
        low, high = test[f"{key}_ci95"]
        table.add_row(f"test {name}, fine-tuned", f"{test[key]:.3f}  (95 % {low:.3f} to {high:.3f})")
    table.add_row("  chance", f"{test['chance']:.3f}")
    table.add_row("  always the largest class", f"{test['majority']:.3f}  (balanced {test['chance']:.3f})")
    table.add_row("test top 5", f"{test['top5']:.3f}")
    probes = ", ".join(f"{n}: {value:.3f}" for n, value in probe["probe"]["by_labels"].items())
    table.add_row("linear probe, pretrained", f"{_both(probe['probe'])}  (by labels per {each} {probes})")
    table.add_row("nearest neighbours, pretrained", _both(probe["knn"]))
    table.add_row("nearest neighbour, raw pixels", f"{probe['knn']['accuracy_raw_pixels']:.3f}")
    pairs = probe["verification"]
    table.add_row("verification, pretrained", f"AUC {pairs['auc']:.3f}, EER {pairs['eer']:.3f}")
    table.add_section()
    for name, place in PLACES:
        table.add_row(name, place)
    return table


def _both(scores: dict[str, Any]) -> str:
    return f"{scores['accuracy']:.3f}, balanced {scores['balanced_accuracy']:.3f}"


def _read(path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FacerepError(f"{path}: not there; run `dvc repro`.") from None
    return value
