"""A small study, and experiments of it that nobody ran: their files as the stages write them, with outcomes as asked."""

import json
from typing import Any

import numpy as np

from facerep.study.config import Study
from facerep.study.runs.plan import Planner, Run
from facerep.study.runs.records import Record, Tables, joined, tables_of
from tests.support.paths import ROOT

STUDY: dict[str, Any] = {
    "name": "small",
    "title": "Does it help?",
    "preset": "demo",
    "baseline": "original",
    "seeds": [0, 1, 2, 3, 4, 5, 6, 7],
    "budgets": {2: {"finetune.steps": 8}, 4: {}, 8: {}},
    "variants": {
        "original": {"about": "the baseline", "pretext": "original"},
        "rotated": {"about": "turns", "pretext": "rotated", "set": {"pretrain.rotations": "all"}},
        "grayscale": {"about": "colours", "pretext": "grayscale"},
    },
}
PHOTOGRAPHS = 200


def study(**changes: Any) -> Study:
    return Study.model_validate(STUDY | changes)


def planner(of: Study) -> Planner:
    return Planner(of, ROOT / "params.yaml")


def record(
    run: Run,
    accuracy: float | tuple[float, ...],
    auc: float = 0.6,
    budgets: tuple[int, ...] = (2, 4, 8),
    classes: dict[str, int] | None = None,
    measure: str = "accuracy",
) -> Record:
    """Answers drawn with that chance; the photographs depend on the seed alone, the draws on the run.

    `classes` are the photographs of each class; without them one class has all. `accuracy` may be one for each class.
    """
    counts = classes or {"p": PHOTOGRAPHS}
    identities = [name for name, n in counts.items() for _ in range(n)]
    chance = np.repeat(accuracy if isinstance(accuracy, tuple) else (accuracy,) * len(counts), list(counts.values()))
    accuracy = float(chance.mean())
    rng = np.random.default_rng([run.seed, run.labels, sum(run.variant.encode())])
    luck = np.random.default_rng([run.seed, run.labels]).random(len(identities))  # how hard each photograph is
    right = luck + rng.normal(0, 0.2, len(identities)) < chance
    answers = {"key": [f"test/p/{run.seed}-{n:03d}" for n in range(len(identities))], "identity": identities}
    columns: dict[str, Any] = {"probe": right, "knn": right}
    for n in budgets:
        columns |= {
            f"probe_{n}": rng.random(len(identities)) < accuracy / 2,
            f"knn_{n}": rng.random(len(identities)) < 0.1,
        }
    by = {way: {str(n): float(columns[f"{way}_{n}"].mean()) for n in budgets} for way in ("probe", "knn")}
    balanced = float(np.mean([right[np.array(identities) == name].mean() for name in counts]))
    test = {"accuracy": float(right.mean()), "balanced_accuracy": balanced, "top5": 0.9, "photographs": len(identities)}
    evaluate = {"test": test | {"chance": 1 / len(counts), "majority": max(counts.values()) / len(identities)}}
    probe = {
        "probe": {"accuracy": 0.3, "by_labels": by["probe"]},
        "knn": {"accuracy": 0.1, "by_labels": by["knn"]},
        "verification": {"auc": auc, "eer": 1 - auc},
    }
    noise = np.random.default_rng(run.seed).normal(0, 0.01, 50)  # the same photographs are drawn for every variant
    trained = run.variant != "original"
    curves = [{"epoch": 1.0, "train/loss": 2.0, "val/loss": 2.1}, {"epoch": 2.0, "train/loss": 1.0, "val/loss": 1.5}]
    curves[1]["kept"] = 1.0
    files: dict[str, Any] = {
        "metrics/evaluate.json": evaluate,
        "metrics/probe.json": probe,
        "metrics/finetune.json": {
            "measure": measure,
            "precision": "fp32",
            "labels": float(run.labels),
            "val": {"accuracy": accuracy - 0.01, "balanced_accuracy": balanced - 0.02},
        },
        "metrics/pretrain.json": {"test": {"accuracy": 0.97}} if trained else {"epochs": 0},
        "metrics/download.json": {"files": 1},
        "metrics/crop.json": {"photographs": 9, "faces": 9},
        "metrics/select.json": {"labelled_identities": 1, "roles": {}, "dropped": {}},
        "metrics/finetune/curves.json": curves,
        "metrics/pretrain/curves.json": curves if trained else [],
        "dvc.lock": {"schema": "2.0"},
    }
    packed = {name: json.dumps(value).encode() for name, value in files.items()}
    packed["params.yaml"] = (ROOT / "params.yaml").read_bytes()
    told = {"photographs": answers | {name: np.asarray(c).astype(int).tolist() for name, c in columns.items()}}
    told |= {"verification": {"auc": [*(auc + noise)], "eer": [*(1 - auc - noise)]}}
    packed["metrics/answers/probe.json"] = json.dumps(told).encode()
    finetuned = {"photographs": answers | {"finetuned": right.astype(int).tolist()}}
    packed["metrics/answers/evaluate.json"] = json.dumps(finetuned).encode()
    return Record(run, "c" * 40, packed)


def records(of: Study, accuracy: Any, auc: Any = lambda variant: 0.6, **more: Any) -> list[Record]:
    """One of every run; `accuracy` and `auc` give what is asked of a run and of a variant, `more` goes to `record`."""
    return [
        record(run, accuracy(run), auc(run.variant), **{"budgets": tuple(of.budgets_of(run.variant)), **more})
        for run in planner(of).runs({})
    ]


def tables(of: Study, made: list[Record]) -> Tables:
    return joined([tables_of(one, 60.0) for one in made], list(of.variants))
