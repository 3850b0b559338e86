"""What a first look at a study shows on the terminal: the classes, how well the labels alone do, and what remains."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from facerep.core.cores import cores
from facerep.study.runs import queue
from facerep.study.runs.bench import Bench, Share
from facerep.study.runs.remaining import Remaining

SHOWN = 30  # classes


def show(bench: Bench, share: Share, file: Path) -> None:
    """Print it, from the experiments that the share has."""
    done = queue.finished()
    choice = bench.choice()
    runs = {run.name: run for run in (*(trial.run for trial in choice.trials), *bench.runs(choice.tuned))}
    made = [run for run in runs.values() if share.has(run) and run.name in done]
    metrics = {run.name: queue.files_of(done[run.name].commit, "metrics") for run in made}
    if made:
        _show_classes(_read(metrics[made[0].name], "select").get("classes", []))
    by_budget = {run.labels: run for run in made}  # of the values that were tried the chosen one, which comes last
    for labels, run in sorted(by_budget.items()):
        evaluated = _read(metrics[run.name], "evaluate")["test"]
        classes = _read(metrics[run.name], "select")["labelled_identities"]
        chance = evaluated.get("chance", 1 / classes)
        print(
            f"{run.variant} with {labels} labels of each class: {100 * evaluated['accuracy']:.1f} % of the test "
            f"photographs are told right; chance is {100 * chance:.1f} %."
        )
    jobs = min(2, cores())
    print(f"{words(bench.remaining(), jobs)}; `facerep study {file} --jobs {jobs}` makes them.")


def words(left: Remaining, jobs: int) -> str:
    """How many runs remain, and for how long."""
    hours = left.hours(jobs)
    with_jobs = f"with {jobs} job{'s' * (jobs > 1)}"
    long = "" if hours is None else f", about {duration(hours)} of this machine {with_jobs} (an estimate),"
    return f"{left.runs} run{'s' * (left.runs != 1)}{long} remain{'s' * (left.runs == 1)}"


def duration(hours: float) -> str:
    """Hours as a person says them."""
    if hours < 1:
        return f"{max(1, round(60 * hours))} minutes" if round(60 * hours) > 1 else "a minute"
    return f"{hours:.1f} hours" if hours < 3 else f"{hours:.0f} hours"


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
