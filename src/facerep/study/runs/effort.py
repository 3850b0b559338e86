"""What each variant of a study was given: photographs, views, pixels, and the time that its runs took."""

from typing import Any

from facerep.params import Params
from facerep.pretrain.pretext import Pretext
from facerep.study.runs.plan import Planner
from facerep.study.runs.records import Record, Tables

Row = dict[str, Any]


def passes(params: Params) -> float:
    """How many photographs' worth of pixels pretraining sends through the network for each of an epoch; 0: none."""
    return Pretext(params.pretext, params.pretrain).passes


def learned(params: Params, labelled: int) -> int:
    """How many photographs fine-tuning sends through the network; `labelled` identities or classes."""
    there = (params.finetune.labels_per_identity or 0) * labelled
    return params.finetune.steps * min(params.finetune.batch_size, there)


def efforts(planner: Planner, records: list[Record], tables: Tables, before: Row) -> dict[str, Row]:
    """Of each variant, for about.json; what no record tells any more is taken from `before`, the same of earlier.

    Keys: `model` and `image_size` (pixels a side); `photographs` and `identities` to pretrain on, `epochs`, `views` (of one
    pretraining: its photographs × epochs × how often an epoch sends each through the network) and `pretrainings` (how
    many different ones), where it pretrains; `finetuning`, the photographs that go through the network by labels; `seconds`
    of all its runs that were timed, `runs_timed` and `runs`; `notes` of its pretraining.
    """
    told: dict[str, Row] = {}
    for name in planner.study.variants:
        own = [record for record in records if record.run.variant == name]
        told[name] = _of(planner, own) if own else dict(before.get(name, {}))
        seconds = [r["seconds"] for r in tables["runs"].to_pylist() if r["variant"] == name]
        timed = [s for s in seconds if s is not None]
        told[name] |= {"seconds": round(sum(timed), 1), "runs_timed": len(timed), "runs": len(seconds)}
    return {name: row for name, row in told.items() if row["runs"]}


def _of(planner: Planner, records: list[Record]) -> Row:
    params = {record.run.name: planner.params(record.run.settings) for record in records}
    first = records[0]
    known = params[first.run.name]
    selected, pretrained = first.json("metrics/select.json"), first.json("metrics/pretrain.json")
    row: Row = {"model": known.model.name, "image_size": known.model.image_size}
    if passes(known):
        pool = selected["roles"].get("pretrain", {})
        row |= {key: pool.get(key) for key in ("photographs", "identities")}
        row["epochs"] = known.pretrain.epochs
        seen = pretrained.get("train", {}).get("photographs")
        row["views"] = None if seen is None else round(seen * known.pretrain.epochs * passes(known))
        row["pretrainings"] = len({planner.pretraining(record.run) for record in records})
    finetuning = {r.run.labels: learned(params[r.run.name], selected["labelled_identities"]) for r in records}
    return row | {"finetuning": {str(n): finetuning[n] for n in sorted(finetuning)}, "notes": _notes(planner, records)}


def _notes(planner: Planner, records: list[Record]) -> list[str]:
    """What the pretrainings say of themselves: the first that says something, and of how many it is so."""
    models = {
        planner.pretraining(record.run): record.json("metrics/pretrain.json").get("notes", []) for record in records
    }
    telling = [notes for notes in models.values() if notes]
    if not telling:
        return []
    often = "" if len(telling) == len(models) else f"In {len(telling)} of {len(models)} pretrainings: "
    return [f"{often}{note}" for note in telling[0]]
