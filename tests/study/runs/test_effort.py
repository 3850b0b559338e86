"""What each variant was given, compared with sums by hand."""

import json
from typing import Any

from facerep.study.runs.effort import efforts
from facerep.study.runs.records import Record
from tests.support.study.runs import planner, records, study, tables

SET = {"finetune.steps": 10, "finetune.batch_size": 32, "pretrain.epochs": 6, "model.image_size": 32}
SELECTED = {"labelled_identities": 5, "roles": {"pretrain": {"photographs": 100, "identities": 20}}}


def told(record: Record) -> Record:
    """With counts, and notes of some pretrainings."""
    pretrained: dict[str, Any] = {}
    if record.run.variant != "original":
        notes = ["Grey is nearer."] if record.run.variant == "grayscale" and record.run.seed % 2 else []
        pretrained = {"train": {"photographs": 90}, "notes": notes}
    files = {"metrics/select.json": SELECTED, "metrics/pretrain.json": pretrained}
    return record._replace(files=record.files | {name: json.dumps(value).encode() for name, value in files.items()})


def test_photographs_views_and_time_are_counted() -> None:
    of = study(seeds=[0, 1, 2], pretraining_seeds=[0, 1], budgets={4: {}, 8: {"finetune.steps": 5}}, set=SET)
    made = [told(record) for record in records(of, lambda run: 0.5)]
    found = efforts(planner(of), made, tables(of, made), {})
    given = {
        "model": "atto",
        "image_size": 32,
        "finetuning": {"4": 10 * 4 * 5, "8": 5 * 32},
    }  # 40 are more than a batch
    given |= {"seconds": 360.0, "runs_timed": 6, "runs": 6}
    pool = {"photographs": 100, "identities": 20, "epochs": 6, "pretrainings": 2}
    assert found == {
        "original": given | {"notes": []},
        "rotated": given | pool | {"views": 4 * 90 * 6, "notes": []},  # in all four turns
        "grayscale": given | pool | {"views": 90 * 6, "notes": ["In 1 of 2 pretrainings: Grey is nearer."]},
    }
    some = [record for record in made if record.run.variant != "rotated"]
    assert efforts(planner(of), some, tables(of, made), found) == found, "what no record tells any more is kept"
    assert "rotated" not in efforts(planner(of), some, tables(of, some), found), "without runs there is nothing to tell"
