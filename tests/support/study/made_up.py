"""A made-up results folder of a study, as the page reads it: plausible numbers, no training."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
from PIL import Image, ImageDraw
from scipy import stats

BUDGETS = (3, 6, 12)
ABOUT = {
    "original": "the starting weights go straight to fine-tuning",
    "original_longer": "as original, fine-tuned for as many steps as the others are trained in all",
    "supervised": "the unlabelled part's own identities are told apart, with their names",
    "simclr": "two views of one face are found again among all others",
    "rotated": "by how much was the face turned?",
    "grayscale": "the grey face gets its colours back",
    "rotated_grayscale": "both at once",
}
# accuracy gained over the baseline at all budgets; of the pretext: its accuracy and PSNR on held-out faces
GAINS = {"original_longer": 0.012, "supervised": 0.085, "simclr": 0.03, "rotated": 0.045, "grayscale": -0.03}
PRETEXTS: dict[str, tuple[float | None, float | None]] = {
    "supervised": (0.41, None),
    "simclr": (0.87, None),
    "rotated": (0.985, None),
    "grayscale": (None, 22.3),
    "rotated_grayscale": (0.99, 19.6),
}
PICTURES = {
    "rotated": ("turns",),
    "grayscale": ("reconstructions",),
    "rotated_grayscale": ("turns", "reconstructions"),
    "simclr": ("views",),
}
MEASURES = ("accuracy", "probe", "knn", "auc", "eer")
FURTHER = (2, 24)  # with `further`: budgets of the baseline alone


def write(
    folder: Path,
    variants: Sequence[str] = tuple(ABOUT),
    seeds: int = 8,
    galleries: bool = True,
    missing: int = 0,
    epochs: int = 12,
    further: bool = False,
) -> None:
    """Write every file of the spec; the first of `variants` is the baseline, names that are not known gain nothing.

    With `further` as a study writes them that names more to beat, a primary and further budgets of the baseline, with what
    each variant was given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    runs = _runs(variants, seeds, rng)
    _table(folder / "runs", runs)
    comparisons = _comparisons(runs, variants)
    _table(folder / "comparisons", comparisons)
    saved = _labels_saved(comparisons, variants)
    _table(folder / "labels_saved", saved)
    pq.write_table(pa.Table.from_pylist(_curves(runs, epochs, rng)), folder / "curves.parquet")
    _tuning(folder / "tuning.csv", variants, rng)
    verdict, about = _verdict(comparisons, saved, variants, missing), _about(variants, seeds)
    if further:
        rows = [_further(row, variants) for row in comparisons]
        rows += [_alone(row, labels) for row in comparisons for labels in FURTHER if _is_of(row, variants[0])]
        _table(folder / "comparisons", rows)
        _table(folder / "labels_saved", [row | {"least": FURTHER[0], "most": FURTHER[-1]} for row in saved])
        verdict |= {"against": f"the better of {variants[0]} and {variants[1]}", "primary": variants[-1]}
        verdict["caveats"] = [
            f"One pretraining each serves all {seeds} seeds of {variants[-1]}: its luck is in no interval."
        ]
        about["effort"] = {variant: _effort(variant) for variant in variants}
    _json(folder / "verdict.json", verdict)
    _json(folder / "about.json", about)
    if galleries:
        for variant in variants:
            for name in (*PICTURES.get(variant, ()), "neighbours", "hardest_pairs", "nearest"):
                picture(folder / "galleries" / variant / f"{name}.png", rng)


def _runs(variants: Sequence[str], seeds: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    luck = {(seed, labels): rng.normal(0, 0.018) for seed in range(seeds) for labels in BUDGETS}
    rows = []
    for variant in variants:
        gain = GAINS.get(variant, 0.0)
        told, psnr = PRETEXTS.get(variant, (None, None))
        for labels in BUDGETS:
            for seed in range(seeds):
                base = 0.19 + 0.13 * np.log2(labels / 3) + luck[seed, labels]
                accuracy = base + gain * (1.3 - 0.25 * np.log2(labels / 3)) + rng.normal(0, 0.022)
                of_seed = np.random.default_rng([seed, list(variants).index(variant)])  # as for all its budgets
                auc, eer = 0.56 + 0.9 * gain + of_seed.normal(0, 0.008), 0.46 - 0.8 * gain + of_seed.normal(0, 0.006)
                rows.append(
                    {
                        "variant": variant,
                        "labels": labels,
                        "seed": seed,
                        "accuracy": accuracy,
                        "top5": min(1.0, accuracy + 0.3),
                        "probe": 0.6 * accuracy + 1.1 * gain + rng.normal(0, 0.012),
                        "knn": 0.3 * accuracy + 0.8 * gain + rng.normal(0, 0.01),
                        "auc": auc,
                        "eer": eer,
                        "val_accuracy": accuracy + rng.normal(0.01, 0.01),
                        "pretext_accuracy": None if told is None else told + of_seed.normal(0, 0.004),
                        "pretext_psnr": None if psnr is None else psnr + of_seed.normal(0, 0.08),
                        "pretext_psnr_grey": None if psnr is None else 20.7 + of_seed.normal(0, 0.05),
                        "experiment": f"made-up-{variant}-{labels}-{seed}",
                        "commit": "0123456789abcdef0123456789abcdef01234567",
                        "seconds": None if variant == "simclr" else 60.0 + labels,
                    }
                )
    return rows


def _comparisons(runs: list[dict[str, Any]], variants: Sequence[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for measure in MEASURES:
        budgets = (None,) if measure in ("auc", "eer") else (None, *BUDGETS)
        for labels in budgets:
            values = {variant: _by_seed(runs, variant, measure, labels) for variant in variants}
            for variant in variants:
                rows.append(_comparison(variant, measure, labels, values[variant], values[variants[0]], variants))
    return sorted(rows, key=lambda row: row["variant"] != variants[0])


def _by_seed(runs: list[dict[str, Any]], variant: str, measure: str, labels: int | None) -> np.ndarray:
    mine = [row for row in runs if row["variant"] == variant and labels in (None, row["labels"])]
    seeds = sorted({row["seed"] for row in mine})
    return np.array([np.mean([row[measure] for row in mine if row["seed"] == seed]) for seed in seeds])


def _comparison(
    variant: str, measure: str, labels: int | None, mine: np.ndarray, base: np.ndarray, variants: Sequence[str]
) -> dict[str, Any]:
    several = len(mine) > 1
    row: dict[str, Any] = {"measure": measure, "labels": labels, "variant": variant, "seeds": len(mine)}
    row |= {"mean": mine.mean(), "sd": mine.std(ddof=1) if several else None, "difference": None, "low": None}
    row |= dict.fromkeys(("high", "p", "p_holm", "effect", "better", "detectable", "word"))
    if variant == variants[0]:
        return row
    gap = mine - base
    row |= {"difference": gap.mean(), "p": 1.0, "p_holm": 1.0, "word": "no evidence either way"}
    if not several:
        return row
    error = gap.std(ddof=1) / np.sqrt(len(gap))
    half = stats.t.ppf(0.975, len(gap) - 1) * error
    p = 2 * stats.t.sf(abs(gap.mean()) / error, len(gap) - 1)
    p_holm = min(1.0, p * (len(variants) - 1))
    good = (gap.mean() > 0) != (measure == "eer")
    return row | {
        "low": gap.mean() - half,
        "high": gap.mean() + half,
        "p": p,
        "p_holm": p_holm,
        "effect": gap.mean() / gap.std(ddof=1),
        "better": stats.t.cdf((1 if measure != "eer" else -1) * gap.mean() / error, len(gap) - 1),
        "detectable": 3.2 * error,
        "word": ("helps" if good else "hurts") if p_holm < 0.05 else "no evidence either way",
    }


def _further(row: dict[str, Any], variants: Sequence[str]) -> dict[str, Any]:
    return row | {"against": None if row["variant"] == variants[0] else variants[1], "pretrainings": None}


def _is_of(row: dict[str, Any], baseline: str) -> bool:
    """Whether it is a row of the baseline at its smallest budget: what its rows of further ones are made of."""
    return row["variant"] == baseline and row["labels"] == BUDGETS[0]


def _alone(row: dict[str, Any], labels: int) -> dict[str, Any]:
    mean = row["mean"] + 0.13 * np.log2(labels / BUDGETS[0]) * (row["measure"] == "accuracy")
    return row | {"labels": labels, "mean": mean, "against": None, "pretrainings": None}


def _effort(variant: str) -> dict[str, Any]:
    trains = variant in PRETEXTS
    views = {"photographs": 52_582, "identities": 48_012, "epochs": 40, "views": 4_120_000, "pretrainings": 2}
    notes = ["What it gives back is no nearer than the grey input."] if variant == "grayscale" else []
    longer = 4 if variant == "original_longer" else 1
    return {
        "model": "atto",
        "image_size": 64,
        **(views if trains else {}),
        "finetuning": {str(labels): 38_400 * longer for labels in BUDGETS},
        "notes": notes,
        "seconds": 7200.0,
        "runs_timed": 20 if variant == "simclr" else 24,
        "runs": 24,
    }


def _labels_saved(comparisons: list[dict[str, Any]], variants: Sequence[str]) -> list[dict[str, Any]]:
    """Labels at which a straight line through the baseline (over log labels) reaches a variant; none beyond its ends."""
    mean = {(r["variant"], r["labels"]): r["mean"] for r in comparisons if r["measure"] == "accuracy"}
    base = [mean[variants[0], labels] for labels in BUDGETS]

    def equal(accuracy: float, curve: list[float] = base) -> float:
        if accuracy < curve[0]:
            return 0.0
        return np.inf if accuracy > curve[-1] else float(np.exp(np.interp(accuracy, curve, np.log(BUDGETS))))

    rows = []
    for variant in variants[1:]:
        own = [mean[variant, labels] for labels in BUDGETS]
        for labels in BUDGETS:
            accuracy = mean[variant, labels]
            ends = dict(
                zip(("", "_low", "_high"), map(equal, (accuracy, accuracy - 0.02, accuracy + 0.02)), strict=True)
            )
            row: dict[str, Any] = {"variant": variant, "labels": labels, "accuracy": accuracy}
            row |= {f"equal{end}": value for end, value in ends.items()}
            row |= {f"saved{end}": value - labels if value else -np.inf for end, value in ends.items()}
            row["needed"] = equal(mean[variants[0], labels], own)
            rows.append(row | {f"ratio{end}": value / labels for end, value in ends.items()})
    return rows


def _curves(runs: list[dict[str, Any]], epochs: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []

    def add(run: dict[str, Any], stage: str, epoch: int, measure: str, value: float) -> None:
        key = {"variant": run["variant"], "labels": run["labels"], "seed": run["seed"]}
        rows.append(key | {"stage": stage, "epoch": epoch, "measure": measure, "value": value + rng.normal(0, 0.006)})

    for run in runs:
        for epoch in range(1, epochs + 1):
            done = 1 - np.exp(-3.5 * epoch / epochs)
            add(run, "finetune", epoch, "train/loss", 4.1 - 3.0 * done)
            add(run, "finetune", epoch, "val/loss", 4.1 - 1.6 * done)
            add(run, "finetune", epoch, "train/accuracy", 0.95 * done)
            add(run, "finetune", epoch, "val/accuracy", run["val_accuracy"] * done)
            if run["variant"] in PRETEXTS and run["labels"] == BUDGETS[0]:
                add(run, "pretrain", epoch, "train/loss", 1.45 - 1.3 * done)
                add(run, "pretrain", epoch, "val/loss", 1.45 - 1.2 * done)
                if run["pretext_accuracy"] is not None:
                    add(run, "pretrain", epoch, "val/accuracy", run["pretext_accuracy"] * (0.25 + 0.75 * done))
                if run["pretext_psnr"] is not None:
                    add(run, "pretrain", epoch, "val/psnr", 15 + (run["pretext_psnr"] - 15) * done)
                    add(run, "pretrain", epoch, "val/psnr_grey", run["pretext_psnr_grey"])
    return rows


def _tuning(path: Path, variants: Sequence[str], rng: np.random.Generator) -> None:
    rows = []
    for variant in variants:
        for value in (0.0005, 0.001, 0.002, 0.004):
            for seed in (100, 101):
                score = 0.31 - 0.02 * abs(np.log2(value / 0.001)) + rng.normal(0, 0.004)
                row = {"variant": variant, "key": "finetune.learning_rate", "value": value, "labels": 6, "seed": seed}
                rows.append(row | {"val_score": score, "chosen": value == 0.001})
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _verdict(
    comparisons: list[dict[str, Any]], saved: list[dict[str, Any]], variants: Sequence[str], missing: int
) -> dict[str, Any]:
    whole = {r["variant"]: r for r in comparisons if r["measure"] == "accuracy" and r["labels"] is None}
    lines = {}
    for variant in variants[1:]:
        row = whole[variant]
        middle = next(r for r in saved if r["variant"] == variant and r["labels"] == BUDGETS[1])
        gain = (
            f"{abs(100 * row['difference']):.1f} points {'above' if row['difference'] > 0 else 'below'} {variants[0]}"
        )
        lines[variant] = {
            "word": row["word"],
            "sentence": f"Over the three budgets {variant} is {gain}.",
            "labels_saved_sentence": f"From {BUDGETS[1]} labels it does what {middle['equal']:.1f} labels do.",
        }
    helping = [variant for variant in lines if lines[variant]["word"] == "helps"]
    best = f"{max(helping, key=lambda v: whole[v]['difference'])} most clearly" if helping else "none clearly"
    return {
        "sentence": f"{len(helping)} of {len(lines)} ways of pretraining help the labelled task, {best}.",
        "variants": lines,
        "rules": [
            "A variant helps when its adjusted p is below 0.05 and its mean over the budgets is above the baseline's.",
            "p comes from all sign flips of the paired differences, and Holm's method adjusts it for the variants.",
            "The interval is a bootstrap over seeds and test photographs; it does not decide the word.",
        ],
        "baseline": variants[0],
        "complete": missing == 0,
        "missing": missing,
    }


def _about(variants: Sequence[str], seeds: int) -> dict[str, Any]:
    chosen = {v: {"about": ABOUT.get(v, "a variant"), "set": {"pretext": v, "pretrain.epochs": 12}} for v in variants}
    return {
        "study": {
            "name": "made_up",
            "title": "Does pretraining on unlabelled faces help to tell people apart?",
            "preset": "lfw",
            "baseline": variants[0],
            "seeds": list(range(seeds)),
            "budgets": list(BUDGETS),
            "variants": chosen,
        },
        "params": {
            "device": "auto",
            "crop": {"method": "detector", "size": 64},
            "pretrain": {"epochs": 12, "learning_rate": 0.002, "clip_norm": 1.0},
            "probe": {"labels": list(BUDGETS)},
            "finetune": {"steps": 1200, "labels_per_identity": None},
        },
        "data": {
            "download": {"files": 1, "bytes": 38227968, "archives": [{"name": "lfw.tgz", "sha256": "ab" * 32}]},
            "crop": {"photographs": 9164, "faces": 9163, "unreadable": {"count": 1, "names": []}},
            "select": {
                "labelled_identities": 62,
                "roles": {
                    "pretrain": {"photographs": 6138, "identities": 1618},
                    "train": {"photographs": 1296, "identities": 62},
                    "val": {"photographs": 320, "identities": 62},
                    "test": {"photographs": 539, "identities": 62},
                },
                "dropped": {
                    "duplicates_within_identity": 12,
                    "duplicates_across_identities": 4,
                    "over_per_identity": 853,
                },
            },
        },
        "versions": {"facerep": "0.1.0", "python": "3.11.7", "torch": "2.14.1"},
        "hardware": {"machine": "AMD EPYC 9B14", "cores": 2, "memory_gib": 24.0, "gpu": None},
        "time": {
            "seconds_total": 61234.5,
            "runs_timed": 144,
            "runs": 168,
            "of_tuning": 24,
            "threads": 1,
            "energy_kwh": 0.51,
            "energy_how": "an estimate: 15 W a core by its data sheet, times the seconds that it ran",
        },
        "commits": ["0123456789abcdef0123456789abcdef01234567"],
        "commands": [
            "facerep study studies/made_up.yaml",
            "FACEREP_MIRROR=~/archives dvc exp run -S pretext=rotated -S seed=0 -S finetune.labels_per_identity=3",
            "facerep report studies/made_up.yaml",
        ],
    }


def picture(path: Path, rng: np.random.Generator) -> None:
    """Squares on white, as a sheet of photographs would lie."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (436, 300), "white")
    draw = ImageDraw.Draw(image)
    for left in (16, 154, 292):
        for top in (16, 154):
            draw.rectangle((left, top, left + 127, top + 127), fill=tuple(rng.integers(60, 220, 3).tolist()))
    image.save(path)


def _table(path: Path, rows: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(rows)
    for name in ("labels", "seed", "seeds"):  # a column of nulls has no type of its own
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.int64()))
    pq.write_table(table, path.with_suffix(".parquet"))
    pcsv.write_csv(table, path.with_suffix(".csv"))


def _json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
