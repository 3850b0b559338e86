"""A study's results on disk: tables, comparisons, verdict, what was run, pictures, and the page."""

import gzip
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from facerep.archives.writer import TarWriter
from facerep.core.cores import cores
from facerep.core.errors import FacerepError
from facerep.core.files import atomic, write_json
from facerep.study.analysis.compare import answer
from facerep.study.analysis.verdict import verdict
from facerep.study.config import Study
from facerep.study.page import page
from facerep.study.runs.bench import Bench
from facerep.study.runs.effort import efforts
from facerep.study.runs.provenance import about, script
from facerep.study.runs.records import GALLERIES, TUNING, Record, write_tables, written
from facerep.study.runs.remaining import words
from facerep.study.runs.tuning import Choice


def report(bench: Bench, path: Path, drop: bool = False) -> str:
    """Write results/<study>/ of whatever runs are there; the verdict's sentence. `path` is the study's YAML file.

    Raises FacerepError when the baseline has no seed with runs at all budgets; all that does not compare is written
    nevertheless. And,
    before anything is written, when runs that the folder holds are no longer the study's, unless it may `drop` them.
    """
    study, folder = bench.study, bench.results
    scores, seconds = bench.scores(), bench.seconds()
    choice = bench.choice()
    if (gone := bench.unplanned(choice)) and not drop:
        raise FacerepError(
            f"{folder}: holds {len(gone)} runs that {path} with today's params.yaml does not plan, {gone[0]} first. "
            "Take the change back; or write to another folder (--results), or without them (--drop)."
        )
    tables, records, missing = bench.collect(choice)
    folder.mkdir(parents=True, exist_ok=True)
    write_tables(tables, folder)  # first what was measured, so that an unfinished study can go on from it elsewhere
    _write_tuning(choice, scores, seconds, folder / "tuning.csv")
    first = min(records, key=lambda r: (r.run.variant != study.baseline, r.run.seed, r.run.labels), default=None)
    _write_locks(first, records, folder)
    before = json.loads((folder / "about.json").read_text()) if (folder / "about.json").is_file() else {}
    runs = bench.runs(choice.tuned)
    trials = {trial.run.name: trial.run for trial in choice.trials}
    for run in runs:
        trials.pop(run.name, None)
    further = [(run, seconds.get(name)) for name, run in trials.items() if name in scores]
    timed = {run.name: s for run, s in further}
    told = about(study, path, tables, first, before, noun=bench.planner.noun, tuned=choice.tuned, trials=timed)
    told["effort"] = efforts(bench.planner, records, tables, before.get("effort", {}), further)
    told.pop("remaining", None)
    if missing:
        jobs = min(2, cores())
        left = bench.remaining(told.get("data", {}).get("select", {}))
        told["remaining"] = {"runs": left.runs, "hours": left.hours(jobs), "jobs": jobs, "sentence": words(left, jobs)}
    write_json(folder / "about.json", told)
    answers = answer(study, tables)
    _write_table(answers.comparisons, folder / "comparisons")
    _write_table(answers.saved, folder / "labels_saved")
    said = verdict(study, answers, missing, bench.planner.noun)
    write_json(folder / "verdict.json", said)
    _write_text(path.read_text(encoding="utf-8"), folder / "study.yaml")
    _write_text(script(study, list(trials.values()), runs, told["commits"]), folder / "commands.sh")
    _write_galleries(study, records, folder / "galleries")
    page.render(folder, study.photographs)
    sentence: str = said["sentence"]
    return sentence


def _write_table(table: pa.Table, path: Path) -> None:
    with atomic(path.with_suffix(".parquet")) as part:
        pq.write_table(table, part, compression="zstd")
    with atomic(path.with_suffix(".csv")) as part:
        pcsv.write_csv(table, part)


def _write_text(text: str, path: Path) -> None:
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")


def _write_tuning(choice: Choice, scores: dict[str, float], seconds: dict[str, float], path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {
            "variant": trial.variant,
            "key": trial.key,
            "value": written(trial.value),
            "labels": trial.run.labels,
            "seed": trial.run.seed,
            "val_score": scores.get(trial.run.name),
            "seconds": seconds.get(trial.run.name),
            "chosen": (trial.variant, trial.key, trial.value) in choice.chosen,
            "experiment": trial.run.name,
        }
        for trial in choice.trials
    ]
    if rows:
        with atomic(path) as part:
            pcsv.write_csv(pa.Table.from_pylist(rows, TUNING), part)


def _write_locks(first: Record | None, records: list[Record], folder: Path) -> None:
    """params.yaml and dvc.lock of the first run of the baseline, and those of every run in locks.tar.gz."""
    if first is None:
        return
    for name in ("params.yaml", "dvc.lock"):
        with atomic(folder / name) as part:
            part.write_bytes(first.files[name])
    packed = folder / "locks.tar.gz"
    members = read_members(packed)
    members |= {f"{r.run.name}/{name}": r.files[name] for r in records for name in ("params.yaml", "dvc.lock")}
    with atomic(packed) as part:
        write_members(members, part)


def _write_galleries(study: Study, records: list[Record], folder: Path) -> None:
    """The pictures of each variant's first seed at the largest budget, and one photograph of each class."""
    if not study.photographs:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for record in records:
        if record.run.seed == min(study.seeds) and record.run.labels == max(study.budgets):
            for name in GALLERIES:
                _write_picture(record, f"metrics/probe/{name}.png", folder / record.run.variant / f"{name}.png")
        if record.run.seed == min(study.seeds):  # of all variants and budgets the same
            _write_picture(record, "metrics/select/classes.png", folder / "classes.png")


def _write_picture(record: Record, name: str, path: Path) -> None:
    if name in record.files:
        with atomic(path) as part:
            part.write_bytes(record.files[name])


def read_members(path: Path) -> dict[str, bytes]:
    """The files of a tar.gz, by name; none where it is not there."""
    if not path.is_file():
        return {}
    with tarfile.open(path, "r:gz") as tar:
        return {info.name: file.read() for info in tar if (file := tar.extractfile(info)) is not None}


def write_members(members: dict[str, bytes], path: Path) -> None:
    """Write a tar.gz, sorted and without times: the same files give the same bytes."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        TarWriter(packed) as tar,
    ):
        for name, data in sorted(members.items()):
            tar.add(name, data)
