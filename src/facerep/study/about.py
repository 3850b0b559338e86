"""What a reader wants to know about a study's runs besides their results: data, parameters, machine, time, commands."""

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

import psutil
import torch

from facerep.cores import cores
from facerep.params import parse_yaml
from facerep.study.config import Study
from facerep.study.plan import Run
from facerep.study.records import Record, Tables

PACKAGES = ("facerep", "dvc", "torch", "torchvision", "transformers", "lightly", "scikit-learn", "scipy", "numpy")


def about(study: Study, path: Path, tables: Tables, record: Record | None, before: dict[str, Any]) -> dict[str, Any]:
    """about.json. What no run of this repository tells any more is taken from the about.json that was there `before`."""
    told = dict(before)
    told["study"] = {
        "name": study.name,
        "title": study.title,
        "profile": study.profile,
        "baseline": study.baseline,
        "seeds": sorted(study.seeds),
        "budgets": sorted(study.budgets),
        "variants": {
            name: {"about": v.about, "set": {"pretext": v.pretext, **v.set}} for name, v in study.variants.items()
        },
    }
    if record is not None:
        params = parse_yaml(record.files["params.yaml"].decode())
        top = {key: value for key, value in params.items() if not isinstance(value, dict)}
        told["params"] = top | {study.profile: params[study.profile]}
        told["data"] = {stage: record.json(f"metrics/{stage}.json") for stage in ("download", "crop", "select")}
        told["versions"] = {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in PACKAGES}
        told["hardware"] = hardware()
    told["time"] = _time(study, tables, told)
    told["commits"] = sorted(set(tables["runs"]["commit"].to_pylist()))
    told["commands"] = commands(study, path)
    return told


def hardware() -> dict[str, Any]:
    """The machine that this runs on."""
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
    """What makes the whole study again, and what prints the line of each run."""
    urls = [archive["url"] for archive in study.set.get("download.archives", [])]
    local = any("/" not in url for url in urls)  # a bare name, which FACEREP_MIRROR has to find
    mirror = "FACEREP_MIRROR=<the folder of the archive> " if local else ""
    return [
        f"{mirror}make study STUDY={path}",
        f"{mirror}python -m facerep.study {path} --plan   # the dvc lines of the runs that are wanting",
        f"python -m facerep.study {path} --report   # the tables and this page again, from the runs that are there",
    ]


def script(runs: list[Run]) -> str:
    """commands.sh: every run's line, with what it is in the table."""
    lines = ["# The runs of the study, as DVC's queue was given them; then: dvc queue start"]
    lines += [f"{run.line}   # {run.variant}, {run.labels} labels, seed {run.seed}" for run in runs]
    return "\n".join(lines) + "\n"


def _time(study: Study, tables: Tables, told: dict[str, Any]) -> dict[str, Any]:
    seconds = [s for s in tables["runs"]["seconds"].to_pylist() if s is not None]
    threads = int(told.get("params", {}).get("threads", 1))
    watts = study.watts_per_core * threads
    return {
        "seconds_total": round(sum(seconds), 1),
        "runs_timed": len(seconds),
        "runs": len(tables["runs"]),
        "energy_kwh": round(sum(seconds) * watts / 3.6e6, 4) if seconds else None,
        "energy_how": f"an estimate: {study.watts_per_core:g} W a core (watts_per_core of the study), {threads} of them "
        "busy for as long as each run took",
    }
