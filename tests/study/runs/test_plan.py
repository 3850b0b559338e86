"""The runs of a study and their dvc lines, compared with Hydra's own parser and with params.yaml."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from facerep.core.errors import FacerepError
from facerep.params import load_params
from facerep.presets import write_preset
from facerep.study.runs.plan import Planner, Run
from tests.support.study.runs import ROOT, planner, study


def test_every_combination_once_seeds_outside_variants_inside() -> None:
    runs = planner(study()).runs({})
    assert [(run.seed, run.labels, run.variant) for run in runs] == [
        (seed, labels, variant)
        for seed in range(8)
        for labels in (2, 4, 8)
        for variant in ("original", "rotated", "grayscale")
    ]
    assert len({run.name for run in runs}) == len(runs)


def test_extra_budgets_are_planned_for_their_variant_alone() -> None:
    """Its probe is scored at all of its budgets, once for all of them."""
    more = {"original": {"about": "a", "pretext": "original", "extra_budgets": {16: {"finetune.epochs": 3}, 1: {}}}}
    of = study(seeds=[0, 1], variants=more | {"rotated": {"about": "b", "pretext": "rotated"}})
    runs = planner(of).runs({})
    assert [(run.labels, run.variant) for run in runs if run.seed == 1] == [
        (1, "original"),
        *((labels, variant) for labels in (2, 4, 8) for variant in ("original", "rotated")),
        (16, "original"),
    ]
    assert {tuple(run.settings["probe.labels"]) for run in runs if run.variant == "original"} == {(1, 2, 4, 8, 16)}
    assert {tuple(run.settings["probe.labels"]) for run in runs if run.variant == "rotated"} == {(2, 4, 8)}
    assert [run.settings.get("finetune.epochs") for run in runs if run.labels == 16] == [3, 3]


def test_what_a_run_changes() -> None:
    of = study(
        set={"threads": 1, "pretrain.epochs": 3, "finetune.learning_rate": 0.1},
        variants={
            "original": {"about": "a", "pretext": "original"},
            "rotated": {
                "about": "b",
                "pretext": "rotated",
                "set": {"pretrain.epochs": 4},
                "budgets": {2: {"finetune.epochs": 9}},
            },
        },
    )
    assert planner(of).run("rotated", 2, 5, {"finetune.learning_rate": 0.2}).settings == {
        "pretext": "rotated",
        "seed": 5,
        "measure": "auto",
        "threads": 1,
        "pretrain.epochs": 4,
        "finetune.learning_rate": 0.2,
        "finetune.labels_per_identity": 2,
        "probe.labels": [2, 4, 8],
        "finetune.epochs": 9,
    }


def test_a_run_sets_what_the_preset_changes_and_the_study_has_the_last_word() -> None:
    """Against the two YAML files, read by another parser."""
    now, preset = (yaml.safe_load((ROOT / name).read_text()) for name in ("params.yaml", "presets/lfw.yaml"))
    run = planner(study(preset="lfw", set={"pretrain.epochs": 3})).run("rotated", 4, 0, {})
    expected = {"memory_mb": preset.pop("memory_mb")} if now["memory_mb"] != preset["memory_mb"] else {}
    preset.pop("memory_mb", None)
    for section, values in preset.items():
        expected |= {f"{section}.{key}": value for key, value in values.items() if now[section][key] != value}
    assert {"crop.method", "select.roles", "download.archives"} <= expected.keys()
    assert "crop.size" not in expected, "as in params.yaml already"
    own = {
        "pretext": "rotated",
        "seed": 0,
        "measure": "auto",
        "finetune.labels_per_identity": 4,
        "probe.labels": [2, 4, 8],
    }
    own |= {"pretrain.epochs": 3, "pretrain.rotations": "all"}
    assert run.settings == expected | own
    flags = [word for word in run.arguments if "=" in word]
    assert {"crop.method=detector", "select.roles=by_count", "pretrain.epochs=3"} <= set(flags)
    assert not planner(study(preset="demo")).preset, "params.yaml is the demo's"


def test_a_preset_that_was_written_into_params_yaml_makes_the_same_runs(tmp_path: Path) -> None:
    """Under the same names: what is done stays done."""
    of = study(preset="lfw")
    params = tmp_path / "params.yaml"
    params.write_bytes((ROOT / "params.yaml").read_bytes())
    before = Planner(of, params).runs({})
    assert write_preset("lfw", params, ROOT / "presets")
    written = Planner(of, params)
    assert written.preset == {}
    assert [run.name for run in written.runs({})] == [run.name for run in before]
    assert {run.name for run in before}.isdisjoint(run.name for run in planner(study(preset="demo")).runs({}))


def test_a_study_hands_its_measure_to_every_run() -> None:
    runs = planner(study(measure="balanced_accuracy")).runs({})
    assert {run.settings["measure"] for run in runs} == {"balanced_accuracy"}
    assert all("measure=balanced_accuracy" in run.arguments for run in runs)


def test_a_name_tells_what_counts_and_nothing_else() -> None:
    def digest(**changes: Any) -> str:
        return planner(study(**changes)).run("rotated", 4, 0, {}).name.rpartition("-")[2]

    same = digest()
    assert digest(set={"save_every_s": 5.0}) == same  # no result depends on it
    assert digest(title="another") == same
    assert digest(set={"threads": 1}) != same
    assert digest(set={"finetune.learning_rate": 0.004}) != same
    assert digest(set={"finetune.learning_rate": 0.002}) == same  # what params.yaml says anyway


def test_the_line_means_to_dvc_what_the_run_says(tmp_path: Path) -> None:
    """DVC's own reading of the line, applied by DVC to params.yaml."""
    archives = [{"url": "../a b/'quoted', {x}.tgz", "sha256": "1e" + "0" * 62, "name": "x.tgz"}]
    of = study(set={"download.archives": archives, "compile": True, "finetune.clip_norm": None})
    run = planner(of).run("rotated", 2, 3, {})
    words = shlex.split(run.line)
    assert words[:6] == ["dvc", "exp", "run", "--queue", "--name", run.name]
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    overrides = to_path_overrides([word for word in words[6:] if word != "-S"])

    apply_overrides(tmp_path / "params.yaml", overrides["params.yaml"])
    params = load_params(tmp_path / "params.yaml")
    assert (params.pretext, params.seed, params.compile) == ("rotated", 3, True)
    assert params.pretrain.rotations == "all"
    assert params.finetune.labels_per_identity == 2
    assert params.finetune.clip_norm is None
    assert params.download.archives[0].model_dump() == archives[0]


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text("ab1'\\ ,:{}[]=e.-"),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
        max_leaves=6,
    )
)
def test_values_come_back_from_hydras_grammar(value: Any) -> None:
    name, of_run, flag, change = Run("rotated", 4, 0, "small-1", {"key": value}).arguments
    assert (name, of_run, flag) == ("--name", "small-1", "-S")
    parsed = OverridesParser.create().parse_override(change)
    assert parsed.key_or_group == "key"
    assert parsed.value() == value


def test_what_params_yaml_refuses_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(FacerepError, match=r"study small: finetune\.epochs = 0"):
        planner(study(set={"finetune.epochs": 0})).run("original", 4, 0, {})
    with pytest.raises(FacerepError, match=r"unknown key finetune\.lr; known here"):
        planner(study(set={"finetune.lr": 1})).run("original", 4, 0, {})
    with pytest.raises(FacerepError, match=r"no block finetun\."):
        planner(study(set={"finetun.epochs": 1})).run("original", 4, 0, {})
    variants = {"original": {"about": "a", "pretext": "original"}, "x": {"about": "b", "pretext": "rotate"}}
    with pytest.raises(FacerepError, match=r"pretext = 'rotate': not known; one of"):
        planner(study(variants=variants))
    with pytest.raises(FacerepError, match=r"no such preset: faces; one of demo, folder, lfw"):
        planner(study(preset="faces"))
