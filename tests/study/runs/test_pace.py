"""A step that is really timed, and counts of photographs compared with what the stages count."""

import json
from pathlib import Path

import pytest

from facerep.params import load_params
from facerep.study.runs.bench import Bench
from facerep.study.runs.counts import counted, with_named
from facerep.study.runs.pace import Kind, Pace, kinds_of, pace
from facerep.study.runs.plan import Planner
from tests.support.paths import ROOT
from tests.support.study.runs import study

TINY = {"model.image_size": 32, "pretrain.batch_size": 8, "finetune.batch_size": 4, "threads": 1, "precision": "fp32"}
KINDS = (Kind("atto", 32, 8), Kind("atto", 32, 4))


def test_a_study_says_before_it_starts_how_long_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence of the demo's drawn faces, by a step timed now."""
    monkeypatch.setenv("FACEREP_SCRATCH", str(tmp_path))
    monkeypatch.setattr("facerep.study.runs.queue.finished", dict)
    bench = Bench(study(seeds=[0, 1], set=TINY), tmp_path / "results", ROOT / "params.yaml")
    said = bench.expected(1)
    assert said.startswith("A training step of 4 photographs of 32 px takes 0.")
    assert " s here: 18 runs, about " in said
    assert said.endswith(" of this machine with 1 job (an estimate), remain, download and crop not counted.")


def test_a_teachers_time_is_not_in_it_and_the_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEREP_SCRATCH", str(tmp_path))
    monkeypatch.setattr("facerep.study.runs.queue.finished", dict)
    one = Pace(1.0, dict.fromkeys(KINDS, 0.1), dict.fromkeys(KINDS, 0.1))
    monkeypatch.setattr("facerep.study.runs.bench.pace", lambda params, jobs: one)
    taught = {"about": "a teacher", "pretext": "distillation", "set": {"pretrain.teacher": str(tmp_path)}}
    of = study(seeds=[0], set=TINY, variants=study().model_dump()["variants"] | {"taught": taught})
    said = Bench(of, tmp_path / "results", ROOT / "params.yaml").expected(1)
    assert said.endswith(" remain, download, crop and the teacher's own computing not counted.")


def test_names_are_counted_where_a_variant_needs_them() -> None:
    """The demo's people of split train all have one; what results tell comes before what is counted."""
    demo = load_params(ROOT / "params.yaml")
    supervised = demo.model_copy(update={"pretext": "supervised"})
    selected = {"labelled_identities": 2, "roles": {"pretrain": {"photographs": 9000}}}
    assert with_named(selected, [demo], {}) == selected
    named = with_named(selected, [demo, supervised], {})["roles"]["pretrain"]["named"]
    assert named == counted(demo)["roles"]["pretrain"]["photographs"]
    told = with_named(selected, [demo, supervised], {"original": {}, "rotated": {"named": 7}})
    assert told["roles"]["pretrain"] == {"photographs": 9000, "named": 7}


@pytest.mark.slow
def test_a_step_costs_more_than_a_look_and_a_larger_photograph_more() -> None:
    planner = Planner(study(set=TINY), ROOT / "params.yaml")
    small = planner.params(TINY)
    large = planner.params({**TINY, "model.image_size": 64})
    assert kinds_of(small) == (Kind("atto", 32, 8), Kind("atto", 32, 4))
    found = pace([small, large], 1)
    assert found is not None and found.start > 0.1
    assert set(found.train) == set(found.score) == {*kinds_of(small), *kinds_of(large)}
    assert all(found.train[kind] > found.score[kind] > 0 for kind in found.train)
    assert found.train[Kind("atto", 64, 8)] > found.train[Kind("atto", 32, 8)]


def test_without_a_network_there_is_no_pace(tmp_path: Path) -> None:
    params = Planner(study(), ROOT / "params.yaml").params({"model.name": str(tmp_path)})
    assert pace([params], 1) is None


def test_drawn_faces_are_counted_as_select_counts_them() -> None:
    """But for copies, and for people of whom more or fewer were drawn than on average."""
    counts = counted(load_params(ROOT / "params.yaml"))
    selected = json.loads((ROOT / "metrics" / "select.json").read_text())
    assert counts["labelled_identities"] == selected["labelled_identities"]
    for role, row in counts["roles"].items():
        assert row["photographs"] == pytest.approx(selected["roles"][role]["photographs"], rel=0.05)


@pytest.mark.parametrize(
    ("roles", "named", "expected"),
    [
        # 12 and 6 photographs of two classes, 3 of a third; 40 without a label. Held out: a fifth each, at least one
        ("by_folder", 0, {"pretrain": 40, "train": 12, "val": 3, "test": 3}),
        ("by_count", 3, {"pretrain": 43, "train": 12, "val": 3, "test": 3}),
    ],
)
def test_a_folder_is_counted_by_its_names(tmp_path: Path, roles: str, named: int, expected: dict[str, int]) -> None:
    for folder, number in (("labelled/a", 12), ("labelled/b", 6), ("labelled/c", 3), ("unlabelled/x", 40)):
        (tmp_path / folder).mkdir(parents=True)
        for n in range(number):
            (tmp_path / folder / f"{n}.jpg").touch()
    archives = [{"url": str(tmp_path / "labelled")}, {"url": str(tmp_path / "unlabelled"), "name": "unlabelled.tar"}]
    settings = {
        "download.archives": archives,
        "select.roles": roles,
        "select.min_labelled": 6,
        "select.per_identity": 60,
    }
    settings |= {"select.val_fraction": 0.2, "select.test_fraction": 0.18}
    counts = counted(Planner(study(), ROOT / "params.yaml").params(settings))
    assert counts["labelled_identities"] == 2
    assert {role: row["photographs"] for role, row in counts["roles"].items()} == expected
    assert counts["roles"]["pretrain"]["named"] == named


def test_what_is_not_here_is_not_counted() -> None:
    settings = {"download.archives": [{"url": "https://example.org/faces.zip"}]}
    assert counted(Planner(study(), ROOT / "params.yaml").params(settings)) == {}
