"""Variants that start from a model of the hub: left out where it is not to be had, kept where their runs are there."""

from pathlib import Path

import pyarrow as pa
import pytest

from facerep.study.config import Study, load_study
from facerep.study.runs import hub
from facerep.study.runs.records import SCHEMAS, write_tables
from tests.support.paths import ROOT
from tests.support.study.runs import study

NEEDS = {
    "about": "of the hub",
    "pretext": "original",
    "needs_hub": True,
    "set": {"model.name": "nobody/no-such-model"},
}


@pytest.fixture
def given() -> Study:
    plain = study(seeds=[0], budgets={4: {}})
    return Study(**(plain.model_dump() | {"variants": plain.model_dump()["variants"] | {"theirs": NEEDS}}))


@pytest.mark.parametrize("there", [True, False])
def test_a_variant_stays_where_its_model_is_had(
    there: bool, given: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(hub, "to_be_had", lambda model: asked.append(model) or there)
    left, told = hub.with_what_can_be_had(given, tmp_path)
    assert asked == ["nobody/no-such-model"], "the others are not asked for"
    assert [name for name in given.variants if name not in left.variants] == ([] if there else ["theirs"])
    assert told == (
        [] if there else ["theirs: left out, since huggingface.co does not give nobody/no-such-model here."]
    )


def test_a_variant_whose_runs_are_there_stays_wherever_they_were_made(given: Study, tmp_path: Path) -> None:
    runs = pa.Table.from_pylist([{"variant": "theirs", "labels": 4, "seed": 0}], SCHEMAS["runs"])
    write_tables({name: schema.empty_table() for name, schema in SCHEMAS.items()} | {"runs": runs}, tmp_path)
    assert hub.with_what_can_be_had(given, tmp_path) == (given, [])


def test_a_model_that_is_in_the_cache_is_had_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    assert not hub.to_be_had("somebody/model")
    folder = tmp_path / "models--somebody--model"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "snapshots" / "abc" / "config.json").write_text("{}")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    assert hub.to_be_had("somebody/model")


def test_the_studies_that_name_such_variants_name_what_facerep_can_start_from() -> None:
    for name in ("lfw", "folder"):
        theirs = {
            variant.set["model.name"]
            for variant in load_study(ROOT / f"studies/{name}.yaml").variants.values()
            if variant.needs_hub
        }
        assert theirs == {"timm/convnext_atto.d2_in1k", "facebook/dinov3-convnext-tiny-pretrain-lvd1689m"}
