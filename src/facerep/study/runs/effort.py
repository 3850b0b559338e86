"""What each variant of a study was given: photographs, views, pixels, and the time that its runs took."""

from typing import Any

from facerep.faces.shards import UNLABELLED
from facerep.study.runs.amounts import learned, needs_names, passes
from facerep.study.runs.plan import Planner, Run
from facerep.study.runs.records import Record, Tables

Row = dict[str, Any]
SPLITS = ("train", "val", "test")


def efforts(
    planner: Planner, records: list[Record], tables: Tables, before: Row, trials: list[tuple[Run, float | None]]
) -> dict[str, Row]:
    """Of each variant, for about.json; what no record tells any more is taken from `before`, the same of earlier.

    `trials` are runs for tuning alone, which are in no table, and their seconds: often the first one pretrains.

    Keys: `model` and `image_size` (pixels a side); `photographs` to pretrain on (its own val and test among them), `named`
    of them, of so many `identities` (both None where that is not known), `epochs`, `views` (of one pretraining: its
    photographs × epochs × how often an epoch sends each through the network) and `pretrainings` (how many different
    ones), where it pretrains; `finetuning`, the photographs that go through the network by labels; `seconds`
    of all its runs that were timed, those for tuning too, `runs_timed` and `runs`; `notes` of its pretraining and
    fine-tuning.
    """
    told: dict[str, Row] = {}
    named = _named(planner, records)
    for name in planner.study.variants:
        own = [record for record in records if record.run.variant == name]
        told[name] = _of(planner, own, named) if own else dict(before.get(name, {}))
        seconds = [r["seconds"] for r in tables["runs"].to_pylist() if r["variant"] == name]
        if not seconds:
            del told[name]
            continue
        seconds += [s for run, s in trials if run.variant == name]
        timed = [s for s in seconds if s is not None]
        told[name] |= {"seconds": round(sum(timed), 1), "runs_timed": len(timed), "runs": len(seconds)}
    return told


def _of(planner: Planner, records: list[Record], named: int | None) -> Row:
    params = {record.run.name: planner.params(record.run.settings) for record in records}
    first = records[0]
    known = params[first.run.name]
    row: Row = {"model": known.model.name, "image_size": known.model.image_size}
    if passes(known):
        pretrained = first.json("metrics/pretrain.json")
        row |= {"photographs": _photographs(pretrained), **_identities(first, named)}
        row["epochs"] = known.pretrain.epochs
        seen = pretrained.get("train", {}).get("photographs")
        row["views"] = None if seen is None else round(seen * known.pretrain.epochs * passes(known))
        row["pretrainings"] = len({planner.pretraining(record.run) for record in records})
    finetuning: dict[int, list[float]] = {}
    for record in records:
        finetuning.setdefault(record.run.labels, []).append(learned(params[record.run.name], _labels(record)))
    row["finetuning"] = {str(n): round(sum(of) / len(of)) for n, of in sorted(finetuning.items())}
    return row | {"notes": _notes(planner, records) + _notes_of_finetuning(records)}


def _photographs(pretrained: Row) -> int | None:
    """All that a pretraining had, by metrics/pretrain.json."""
    counts = [pretrained.get(split, {}).get("photographs") for split in SPLITS]
    return None if None in counts else sum(counts)


def _labels(record: Record) -> int:
    """The photographs that fine-tuning had: with few in some classes, fewer than were asked for."""
    finetune = record.json("metrics/finetune.json")
    return round(finetune["labels"] * record.json("metrics/select.json")["labelled_identities"])


def _named(planner: Planner, records: list[Record]) -> int | None:
    """How many of the pool have a name: all that a pretext had that needs names. None where there is no such run."""
    for record in {record.run.variant: record for record in records}.values():
        if needs_names(planner.params(record.run.settings)):
            return _photographs(record.json("metrics/pretrain.json"))
    return None


def _identities(record: Record, named: int | None) -> Row:
    """`named` and `identities`: metrics/select.json counts a photograph without a name as an identity of its own."""
    pool = record.json("metrics/select.json")["roles"].get("pretrain", {})
    if UNLABELLED not in record.json("metrics/crop.json").get("splits", {}):
        named = pool.get("photographs")
    if named is None or not pool:
        return {"named": None, "identities": None}
    return {"named": named, "identities": pool["identities"] - (pool["photographs"] - named)}


def _notes(planner: Planner, records: list[Record]) -> list[str]:
    """What the pretrainings say of themselves: the first that says something, and of how many it is so."""
    models = {
        planner.pretraining(record.run): record.json("metrics/pretrain.json").get("notes", []) for record in records
    }
    return _first_of(list(models.values()), "pretrainings: ")


def _notes_of_finetuning(records: list[Record]) -> list[str]:
    """What fine-tuning says of itself, once for each number of labels."""
    by_labels: dict[int, list[list[str]]] = {}
    for record in records:
        by_labels.setdefault(record.run.labels, []).append(record.json("metrics/finetune.json").get("notes", []))
    return [
        f"With {labels} label{'s' * (labels > 1)}: {note}"
        for labels, notes in sorted(by_labels.items())
        for note in _first_of(notes, "runs: ")
    ]


def _first_of(notes: list[list[str]], of: str) -> list[str]:
    """The first that say something, and of how many it is so."""
    telling = [each for each in notes if each]
    if not telling:
        return []
    often = "" if len(telling) == len(notes) else f"In {len(telling)} of {len(notes)} {of}"
    return [f"{often}{note}" for note in telling[0]]
