"""What each variant was given, compared with sums by hand."""

import json
from typing import Any

from facerep.study.runs.effort import efforts
from facerep.study.runs.records import Record
from tests.support.study.runs import planner, records, study, tables

SET = {"finetune.steps": 10, "finetune.batch_size": 32, "pretrain.epochs": 6, "model.image_size": 32}
SELECTED = {"labelled_identities": 5, "roles": {"pretrain": {"photographs": 100, "identities": 20}}}
ENDS = [f"With {n} labels: In 1 of 3 runs: It ends lower." for n in (4, 8)]


def told(record: Record) -> Record:
    """With counts, and notes of some pretrainings."""
    pretrained: dict[str, Any] = {}
    if record.run.variant != "original":
        notes = ["Grey is nearer."] if record.run.variant == "grayscale" and record.run.seed % 2 else []
        # supervised leaves out those without a name, of which each is counted as an identity of its own
        seen = (50, 5, 5) if record.run.variant == "supervised" else (90, 6, 4)
        pretrained = {split: {"photographs": n} for split, n in zip(("train", "val", "test"), seen, strict=True)}
        pretrained["notes"] = notes
    finetuned = record.json("metrics/finetune.json")
    if record.run.seed == 1:
        finetuned["notes"] = ["It ends lower."]
    files = {"metrics/select.json": SELECTED, "metrics/pretrain.json": pretrained, "metrics/finetune.json": finetuned}
    return changed(record, files)


def test_photographs_views_and_time_are_counted() -> None:
    of = study(seeds=[0, 1, 2], pretraining_seeds=[0, 1], budgets={4: {}, 8: {"finetune.steps": 5}}, set=SET)
    made = [told(record) for record in records(of, lambda run: 0.5)]
    found = efforts(planner(of), made, tables(of, made), {}, [])
    given = {
        "model": "atto",
        "image_size": 32,
        "finetuning": {"4": 10 * 4 * 5, "8": 5 * 20},
    }  # 40 are more than a batch, and so two of 20
    given |= {"seconds": 360.0, "runs_timed": 6, "runs": 6}
    pool = {"photographs": 100, "named": 100, "identities": 20, "epochs": 6, "pretrainings": 2}
    assert found == {
        "original": given | {"notes": ENDS},
        "rotated": given | pool | {"views": 4 * 90 * 6, "notes": ENDS},  # in all four turns
        "grayscale": given | pool | {"views": 90 * 6, "notes": ["In 1 of 2 pretrainings: Grey is nearer.", *ENDS]},
    }
    trials = [(planner(of).run("rotated", 4, seed, {"finetune.steps": 3}), s) for seed, s in ((0, 500.0), (1, None))]
    tuned = efforts(planner(of), made, tables(of, made), {}, trials)["rotated"]
    assert [tuned[key] for key in ("seconds", "runs_timed", "runs")] == [860.0, 7, 8], "tuning costs, too"
    some = [record for record in made if record.run.variant != "rotated"]
    assert efforts(planner(of), some, tables(of, made), found, []) == found, "what no record tells any more is kept"
    assert "rotated" not in efforts(planner(of), some, tables(of, some), found, []), (
        "without runs there is nothing to tell"
    )


def test_photographs_without_a_name_are_no_identities() -> None:
    """Of 100 photographs 60 have a name, and 40 of the 60 identities are photographs without."""
    variants = {name: {"about": name, "pretext": name} for name in ("original", "rotated", "supervised")}
    of = study(seeds=[0], budgets={4: {}}, set=SET | {"pretrain.rotations": "drawn"}, variants=variants)
    made = [told(record) for record in records(of, lambda run: 0.5)]
    files = {
        "metrics/crop.json": {"splits": {"train": 1, "unlabelled": 1}},
        "metrics/select.json": {
            "labelled_identities": 5,
            "roles": {"pretrain": {"photographs": 100, "identities": 60}},
        },
    }
    made = [changed(record, files) for record in made]
    found = efforts(planner(of), made, tables(of, made), {}, [])
    keys = ("photographs", "named", "identities", "views")
    assert [found["rotated"][key] for key in keys] == [100, 60, 20, 90 * 6]
    assert [found["supervised"][key] for key in keys] == [60, 60, 20, 50 * 6]
    alone = [record for record in made if record.run.variant != "supervised"]
    found = efforts(planner(of), alone, tables(of, alone), {}, [])
    assert [found["rotated"][key] for key in keys] == [100, None, None, 90 * 6], "nobody knows how many have one"


def test_labels_that_are_really_used_are_counted() -> None:
    """As the batches of fine-tuning are: 12.4 labels of 15 classes are 186 photographs, in batches of up to 32 six of 31."""
    of = study(seeds=[0], budgets={16: {}}, set=SET)
    made = [told(record) for record in records(of, lambda run: 0.5)]
    finetuned = made[0].json("metrics/finetune.json") | {"labels": 12.4}
    files = {"metrics/finetune.json": finetuned, "metrics/select.json": SELECTED | {"labelled_identities": 15}}
    made = [changed(record, files) for record in made]
    assert efforts(planner(of), made, tables(of, made), {}, [])["original"]["finetuning"] == {"16": 10 * 31}


def changed(record: Record, files: dict[str, Any]) -> Record:
    return record._replace(files=record.files | {name: json.dumps(value).encode() for name, value in files.items()})
