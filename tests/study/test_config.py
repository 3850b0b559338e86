"""A study's YAML: what is refused is named."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from facerep.core.errors import FacerepError
from facerep.params import checked
from facerep.study.config import Study, load_study
from tests.support.study.runs import ROOT, STUDY


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_our_studies_are_valid_and_named_as_their_files(path: Path) -> None:
    assert load_study(path).name == path.stem


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"preset": 1}, ["preset = 1"]),
        ({"profile": "lfw"}, ["unknown key profile", "preset"]),
        ({"baseline": "none"}, ["baseline 'none'", "original, rotated"]),
        ({"seeds": []}, ["seeds = []"]),
        ({"also_beat": ["longer"]}, ["also_beat 'longer'", "none of the variants"]),
        ({"also_beat": ["original"]}, ["also_beat 'original'", "is the baseline"]),
        ({"also_beat": ["rotated", "rotated"]}, ["also_beat", "twice"]),
        ({"primary": "simclr"}, ["primary 'simclr'", "none of the variants"]),
        ({"also_beat": ["rotated"], "primary": "rotated"}, ["primary 'rotated'", "what the others must beat"]),
        (
            {"variants": STUDY["variants"] | {"original": STUDY["variants"]["original"] | {"extra_budgets": {4: {}}}}},
            ["variants.original.extra_budgets", "4 labels are a budget of every variant"],
        ),
        (
            {"variants": STUDY["variants"] | {"rotated": STUDY["variants"]["rotated"] | {"extra_budgets": {16: {}}}}},
            ["variants.rotated.extra_budgets", "only the baseline and those of also_beat"],
        ),
        ({"measure": "recall"}, ["measure = 'recall'", "auto", "balanced_accuracy"]),
        ({"set": {"measure": "accuracy"}}, ["measure is said by a key of the study itself"]),
        ({"set": {"pretrain.seed": 1}}, ["pretrain.seed is said by", "pretraining_seeds"]),
        ({"set": {"seed": 1}}, ["seed is said by", "seeds"]),
        ({"budgets": {4: {"pretrain.seed": 1}}}, ["pretrain.seed is said by"]),
        ({"tune": {"seeds": [0], "labels": [4], "grid": {"pretrain.seed": [0, 1]}}}, ["pretrain.seed is said by"]),
        ({"pretraining_seeds": []}, ["pretraining_seeds = []"]),
        ({"pretraining_seeds": [1, 1]}, ["pretraining_seeds", "twice"]),
        ({"pretraining_seeds": [-1]}, ["pretraining_seeds.0 = -1"]),
        ({"seeds": [0, 0]}, ["seeds", "twice"]),
        ({"budgets": {0: {}}}, ["budgets"]),
        ({"name": "Two Words"}, ["name = 'Two Words'"]),
        ({"variant": {}}, ["unknown key variant", "variants", "budgets"]),
        ({"variants": {"original": {"about": "a", "pretext": "original"}}}, ["variants"]),
        (
            {"variants": {**STUDY["variants"], "more": {"about": "a", "pretext": "rotated", "sets": {}}}},
            ["unknown key variants.more.sets", "pretext", "set"],
        ),
        (
            {"variants": {**STUDY["variants"], "more": {"about": "a", "pretext": "rotated", "budgets": {5: {}}}}},
            ["variants.more.budgets", "5 labels"],
        ),
        ({"tune": {"seeds": [0], "labels": [3], "grid": {}}}, ["tune.labels", "3 labels"]),
        ({"tune": {"seeds": [0], "labels": [4], "grid": {"a.b": [1]}}}, ["tune.grid.a.b"]),
        ({"tune": {"seeds": [0], "labels": [4], "grid": {"a.b": [1, 2, 1]}}}, ["tune.grid", "1 stands there twice"]),
        ({"tune": {"seeds": [0], "labels": [4, 4], "grid": {}}}, ["tune.labels", "4 stands there twice"]),
        ({"tune": {"seeds": [0], "labels": [4], "grid": {}, "beyond": -1}}, ["tune.beyond"]),
        ({"tune": {"seeds": [0], "labels": [4], "grid": {"a.b": ["x", "y", "x"]}}}, ["x stands there twice"]),
        ({"tune": {"seeds": [0], "labels": [4], "grid": {"a.b": [True, True]}}}, ["true stands there twice"]),
        ({"tune": {"seeds": [0], "labels": [4], "grid": {"a.b": [1, [2]]}}}, ["tune.grid.a.b.1", "number, text, true"]),
        (
            {"tune": {"seeds": [0], "labels": [4], "grid": {"a.b": [None, 1]}}},
            ["tune.grid.a.b.0", "number, text, true"],
        ),
        ({"tune": {"seeds": [0], "labels": [4], "grid": {"a.b": [1, math.inf]}}}, ["tune.grid.a.b.1 = inf"]),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: dict[str, Any], words: list[str]) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY | change))
    with pytest.raises(FacerepError) as refused:
        load_study(path)
    text = str(refused.value)
    assert "\n" not in text
    for word in (str(path), *words):
        assert word in text


def test_values_of_a_grid_stay_what_they_are(tmp_path: Path) -> None:
    """As YAML has them: true is no 1, and text that looks like a number is text."""
    path = tmp_path / "study.yaml"
    grid = "{a.b: [false, true], a.c: [0, 1], a.d: [0.001, '0.001', 'true', drawn]}"
    path.write_text(yaml.safe_dump(STUDY) + f"tune: {{seeds: [0], labels: [4], grid: {grid}}}\n")
    tune = load_study(path).tune
    assert tune is not None
    found = {key: [(type(value), value) for value in values] for key, values in tune.grid.items()}
    assert found == {
        "a.b": [(bool, False), (bool, True)],
        "a.c": [(int, 0), (int, 1)],
        "a.d": [(float, 0.001), (str, "0.001"), (str, "true"), (str, "drawn")],
    }


def test_a_study_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FacerepError, match=r"nowhere\.yaml: not there; name a study"):
        load_study(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"name": "My-Study"},
            "name = 'My-Study': must be small letters a to z, digits and _ alone, and no _ at the beginning.",
        ),
        (
            {"variants": {"Rotated": {"about": "a", "pretext": "rotate"}}},
            "variants.Rotated: must be small letters a to z",
        ),
        ({"set": {1: 2}}, "set.1: a key must be text here; put it in quotes."),
    ],
)
def test_names_and_keys_are_refused_in_plain_words(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(FacerepError) as error:
        checked(STUDY | changes, Study, "my.yaml")
    assert f"my.yaml: {words}" in str(error.value)
