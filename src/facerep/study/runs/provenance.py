"""What a reader wants to know about a study's runs besides their results: data, parameters, machine, time, commands."""

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

import psutil
import torch

from facerep.core.cores import cores
from facerep.params import parse_yaml
from facerep.study.config import Setting, Study
from facerep.study.runs.plan import Run
from facerep.study.runs.records import Record, Tables

PACKAGES = ("facerep", "dvc", "torch", "torchvision", "transformers", "scikit-learn", "scipy", "numpy")


def about(
    study: Study,
    path: Path,
    tables: Tables,
    record: Record | None,
    before: dict[str, Any],
    *,
    noun: str,
    tuned: dict[str, Setting],
    trials: dict[str, float | None],
) -> dict[str, Any]:
    """about.json. What no run of this repository tells any more is taken from the about.json that was there `before`.

    `record` is of the run whose parameters and counts are shown, `noun` what a label names (class or identity), `tuned` what
    was chosen by variant, `trials` the seconds by name of the runs that only chose values.
    """
    told = dict(before)
    told["study"] = {
        "name": study.name,
        "title": study.title,
        "preset": study.preset,
        "baseline": study.baseline,
        "also_beat": study.also_beat,
        "primary": study.primary,
        "noun": noun,
        "seeds": sorted(study.seeds),
        "pretraining_seeds": study.pretraining_seeds,
        "budgets": sorted(study.budgets),
        "set": study.set,
        "budgets_set": {str(labels): study.budgets[labels] for labels in sorted(study.budgets)},
        "variants": {
            name: {
                "about": v.about,
                "set": {"pretext": v.pretext, **v.set},
                "tuned": tuned.get(name, {}),
                "budgets_set": {str(labels): v.budgets[labels] for labels in sorted(v.budgets)},
                "extra_budgets": {str(labels): v.extra_budgets[labels] for labels in sorted(v.extra_budgets)},
            }
            for name, v in study.variants.items()
        },
    }
    if record is not None:
        told["params"] = parse_yaml(record.files["params.yaml"].decode())
        told["params_of"] = f"{record.run.variant}, {record.run.labels} labels, seed {record.run.seed}"
        told["data"] = {stage: record.json(f"metrics/{stage}.json") for stage in ("download", "crop", "select")}
        told["versions"] = {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in PACKAGES}
        told["hardware"] = hardware()
    told["time"] = _time(study, tables, trials, told)
    told["commits"] = sorted(set(tables["runs"]["commit"].to_pylist()))
    told["codes"] = len(set(tables["runs"]["code"].to_pylist()))
    told["commands"] = commands(study, path)
    return told


def hardware() -> dict[str, Any]:
    """The machine that this runs on: that of the report, which may not be that of every run."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "machine": (names or [platform.processor() or platform.machine()])[0],
        "cores": cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    }


def commands(study: Study, path: Path) -> list[str]:
    """What makes the whole study again, what prints the line of each run, and what writes the page again."""
    mirror = "FACEREP_MIRROR=<folder of the archive> " if _local(study) else ""
    return [
        f"{mirror}facerep study {path} --results again   # all anew in a fresh clone, to again/{study.name}/",
        f"{mirror}make study STUDY={path}   # only the runs that are missing",
        f"facerep study {path} --plan   # the dvc lines of the runs that are missing",
        f"facerep report {path}   # the tables and this page again, from the runs that are there",
    ]


def script(study: Study, trials: list[Run], runs: list[Run], commits: list[str]) -> str:
    """commands.sh: every run's line, with what it is in the table."""
    lines = ["# Every run of the study, as DVC's queue was given it."]
    lines += [f"# With the code of: git checkout {commit}" for commit in commits]
    if _local(study):
        lines.append('export FACEREP_MIRROR=${FACEREP_MIRROR:?"the folder of the archive"}')
    if trials:
        lines.append("# What chose the settings on val, and is no part of the table:")
    lines += [f"{run.line}   # {run.variant}, {run.labels} labels, seed {run.seed}" for run in trials]
    lines.append("# The runs of the table:")
    lines += [f"{run.line}   # {run.variant}, {run.labels} labels, seed {run.seed}" for run in runs]
    lines.append("dvc queue start")
    return "\n".join(lines) + "\n"


def _local(study: Study) -> bool:
    """Whether an archive is a bare name, which FACEREP_MIRROR has to find."""
    return any("/" not in archive["url"] for archive in study.set.get("download.archives", []))


def _time(study: Study, tables: Tables, trials: dict[str, float | None], told: dict[str, Any]) -> dict[str, Any]:
    seconds = [s for s in (*tables["runs"]["seconds"].to_pylist(), *trials.values()) if s is not None]
    threads = int(told.get("params", {}).get("threads", 1))
    watts = study.watts_per_core * threads
    return {
        "seconds_total": round(sum(seconds), 1),
        "runs_timed": len(seconds),
        "runs": len(tables["runs"]) + len(trials),
        "of_tuning": len(trials),
        "threads": threads,
        "energy_kwh": round(sum(seconds) * watts / 3.6e6, 4) if seconds else None,
        "energy_how": f"an estimate: {study.watts_per_core:g} W a core (watts_per_core of the study), {threads} of them "
        "busy for as long as each run took",
    }
