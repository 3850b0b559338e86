"""What a first look at a study shows on the terminal: the classes, how well the labels alone do, and what remains."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
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
        _show_classes(_read(metrics[made[0].name], "select").get("classes", []))
    by_budget = {run.labels: run for run in made}  # of a budget's runs the last: of the values that were chosen
    for labels, run in sorted(by_budget.items()):
        evaluated = _read(metrics[run.name], "evaluate")["test"]
        classes = _read(metrics[run.name], "select")["labelled_identities"]
        chance = evaluated.get("chance", 1 / classes)
        print(
            f"{run.variant} with {labels} labels of each class: {100 * evaluated['accuracy']:.1f} % of the test "
            f"photographs are told right; chance is {100 * chance:.1f} %."
        )
    selected = _read(metrics[made[0].name], "select") if made else {}
    jobs = min(2, cores())
    print(f"{words(bench.remaining(selected), jobs)}; `facerep study {file} --jobs {jobs}` makes them.")


def _show_classes(classes: list[dict[str, Any]]) -> None:
    if not classes:
        return
    table = Table("class", *(name for name in classes[0] if name != "name"))
    for row in classes[:SHOWN]:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)
    if len(classes) > SHOWN:
        print(f"… and {len(classes) - SHOWN} more classes, in metrics/select.json.")


def _read(files: dict[str, bytes], stage: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(files[f"metrics/{stage}.json"])
    return value
