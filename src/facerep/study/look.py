"""What a first look at a study shows on the terminal: the classes, how well the labels alone do, and what remains."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from facerep.core.cores import cores
from facerep.study.runs import queue
from facerep.study.runs.bench import Bench, Share
from facerep.study.runs.remaining import words

SHOWN = 30  # classes


def show(bench: Bench, share: Share, file: Path) -> None:
    """Print it, from the experiments that the share has."""
    done = queue.finished()
    choice = bench.choice()
    runs = (*(trial.run for trial in choice.trials), *bench.runs(choice.tuned))
    made = [run for run in runs if share.has(run) and run.name in done]
    metrics = {run.name: queue.files_of(done[run.name].commit, "metrics") for run in made}
    if made:
        first = metrics[made[0].name]
        _show_classes(_read(first, "select")["classes"])
        for note in (note for stage in ("download", "crop", "select") for note in _read(first, stage)["notes"]):
            print(f"Worth a look: {note}")
    by_budget = {run.labels: run for run in made}  # of a budget's runs the last: of the values that were chosen
    for labels, run in sorted(by_budget.items()):
        test, measure = (
            _read(metrics[run.name], stage)[key] for stage, key in (("evaluate", "test"), ("finetune", "measure"))
        )
        print(
            f"{run.variant} with {labels} labels of each class: {measure.replace('_', ' ')} {100 * test[measure]:.1f} % on "
            f"test; chance is {100 * test['chance']:.1f} %."
        )
    selected = _read(metrics[made[0].name], "select") if made else {}
    jobs = min(2, cores())
    print(f"{words(bench.remaining(selected), jobs)}; `facerep study {file} --jobs {jobs}` makes them.")


def _show_classes(classes: list[dict[str, Any]]) -> None:
    if not classes:
        return
    table = Table("class", "found", "unreadable", "train", "val", "test", "dropped")
    for row in classes[:SHOWN]:
        dropped = ", ".join(f"{n} {rule.replace('_', ' ')}" for rule, n in row["dropped"].items())
        table.add_row(
            escape(row["name"]), *(str(row[key]) for key in ("found", "unreadable", "train", "val", "test")), dropped
        )
    Console().print(table)
    if len(classes) > SHOWN:
        print(f"… and {len(classes) - SHOWN} more classes, in metrics/select.json.")


def _read(files: dict[str, bytes], stage: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(files[f"metrics/{stage}.json"])
    return value
