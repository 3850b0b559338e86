"""The runs of a study and their dvc lines, compared with Hydra's own parser and with params.yaml."""

import json
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
from facerep.study.config import Study
from facerep.study.runs.plan import Planner, Run
from facerep.study.runs.tuning import tune
from tests.support.study.runs import ROOT, planner, study

GRID = {"finetune.learning_rate": [0.001, 0.002, 0.004]}
UP_TO_PRETRAIN = ("download", "crop", "select", "pretrain")


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
    more = {"original": {"about": "a", "pretext": "original", "extra_budgets": {16: {"finetune.steps": 3}, 1: {}}}}
    of = study(seeds=[0, 1], variants=more | {"rotated": {"about": "b", "pretext": "rotated"}})
    runs = planner(of).runs({})
    assert [(run.labels, run.variant) for run in runs if run.seed == 1] == [
        (1, "original"),
        *((labels, variant) for labels in (2, 4, 8) for variant in ("original", "rotated")),
        (16, "original"),
    ]
    assert {tuple(run.settings["probe.labels"]) for run in runs if run.variant == "original"} == {(1, 2, 4, 8, 16)}
    assert {tuple(run.settings["probe.labels"]) for run in runs if run.variant == "rotated"} == {(2, 4, 8)}
    assert [run.settings.get("finetune.steps") for run in runs if run.labels == 16] == [3, 3]


def test_what_a_run_changes() -> None:
    of = study(
        set={"threads": 1, "pretrain.epochs": 3, "finetune.learning_rate": 0.1},
        variants={
            "original": {"about": "a", "pretext": "original"},
            "rotated": {
                "about": "b",
                "pretext": "rotated",
                "set": {"pretrain.epochs": 4},
                "budgets": {2: {"finetune.steps": 9}},
            },
        },
    )
    assert planner(of).run("rotated", 2, 5, {"finetune.learning_rate": 0.2}).settings == {
        "pretext": "rotated",
        "seed": 5,
        "pretrain.seed": 0,
        "measure": "auto",
        "threads": 1,
        "pretrain.epochs": 4,
        "finetune.learning_rate": 0.2,
        "finetune.labels_per_identity": 2,
        "probe.labels": [2, 4, 8],
        "finetune.steps": 9,
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
        "pretrain.seed": 0,
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


# Which runs share a pretrained model


@pytest.mark.parametrize(
    ("given", "expected"), [(None, [0] * 8), ([0, 1], [0, 1] * 4), ([5, 3, 4], [5, 3, 4] * 2 + [5, 3])]
)
def test_seeds_go_around_the_seeds_of_pretraining_and_a_start_has_its_own(
    given: list[int] | None, expected: list[int]
) -> None:
    seeds = [7, 0, 1, 2, 3, 4, 5, 6]
    of = study(seeds=seeds) if given is None else study(seeds=seeds, pretraining_seeds=given)
    told = {(run.variant, run.seed): run.settings["pretrain.seed"] for run in planner(of).runs({})}
    for variant in ("rotated", "grayscale"):
        assert [told[variant, seed] for seed in seeds] == expected
    assert [told["original", seed] for seed in seeds] == seeds


def test_seeds_of_tuning_alone_go_on_around() -> None:
    tune = {"seeds": [1, 9, 8], "labels": [4], "grid": {}}
    plan = planner(study(seeds=[0, 1], pretraining_seeds=[4, 5], tune=tune))
    assert [plan.pretraining_seed("rotated", seed) for seed in (0, 1, 9, 8)] == [4, 5, 5, 4]


def models(of: Study) -> dict[str | None, set[tuple[str, int]]]:
    """Variants and seeds of the runs that share each pretrained model."""
    plan = planner(of)
    found: dict[str | None, set[tuple[str, int]]] = {}
    for run in plan.runs({}):
        found.setdefault(plan.pretraining(run), set()).add((run.variant, run.seed))
    return found


def test_a_model_is_shared_by_all_budgets_and_by_the_seeds_that_it_serves() -> None:
    seeds = list(range(4))
    found = models(study(seeds=seeds, pretraining_seeds=[0, 1]))
    assert found.pop(None) == {("original", seed) for seed in seeds}
    expected = [{(variant, s), (variant, s + 2)} for variant in ("rotated", "grayscale") for s in (0, 1)]
    assert sorted(map(sorted, found.values())) == sorted(map(sorted, expected))


@pytest.mark.parametrize("change", [{"pretrain.include_labelled": True}, {"pretrain.score_knn_every": 2}])
def test_a_model_that_sees_labelled_photographs_is_of_one_seed(change: dict[str, Any]) -> None:
    found = models(study(seeds=[0, 1, 2], set=change))
    found.pop(None)
    assert [len(shared) for shared in found.values()] == [1] * 6


@pytest.mark.parametrize(
    ("settings", "shared"),
    [
        ({"finetune.steps": 9, "finetune.learning_rate": 0.1, "evaluate.bootstrap": 200, "probe.labels": [1]}, True),
        ({"measure": "accuracy", "seed": 5, "save_every_s": 1.0, "finetune.labels_per_identity": 3}, True),
        ({"pretrain.learning_rate": 0.1}, False),
        ({"model.image_size": 32}, False),
        ({"select.exclude": "another.txt"}, False),
        ({"device": "cpu"}, False),
    ],
)
def test_what_is_said_of_fine_tuning_pretrains_nothing_again(settings: dict[str, Any], shared: bool) -> None:
    plan = planner(study())
    run = plan.run("rotated", 4, 0, {})
    other = run._replace(settings=run.settings | settings)
    assert (plan.pretraining(other) == plan.pretraining(run)) is shared


def test_that_is_what_dvc_says_of_it() -> None:
    """The sections of params.yaml that the stages up to pretrain read, by dvc.yaml; of them all but the seed."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    read = {key.partition(".")[0] for name in UP_TO_PRETRAIN for key in stages[name]["params"]}
    plan = planner(study())
    model = plan.pretraining(plan.run("rotated", 4, 0, {}))
    assert model is not None
    assert set(json.loads(model)) | {"seed"} == read
    assert "seed" not in stages["pretrain"]["params"]


def test_of_each_model_one_run_comes_first() -> None:
    """So that two jobs do not want the same one at once."""
    of = study(seeds=[0, 1], pretraining_seeds=[0, 1], tune={"seeds": [0, 1], "labels": [2, 8], "grid": GRID})
    plan = planner(of)
    runs = tune(of, plan, {}).missing
    ordered = plan.pretrained_once(runs)
    assert sorted(run.name for run in ordered) == sorted(run.name for run in runs)
    models = [plan.pretraining(run) for run in ordered]
    assert models[:12] == [None] * 12, "the baseline's, which need none: three rates, two seeds, two budgets"
    assert len(set(models[12:16])) == 4 == len(set(models) - {None})
    rest = [run for run in runs if run not in ordered[:16]]
    assert ordered[16:] == rest, "in the order that they had"


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
    with pytest.raises(FacerepError, match=r"study small: finetune\.steps = 0"):
        planner(study(set={"finetune.steps": 0})).run("original", 4, 0, {})
    with pytest.raises(FacerepError, match=r"unknown key finetune\.lr; known here"):
        planner(study(set={"finetune.lr": 1})).run("original", 4, 0, {})
    with pytest.raises(FacerepError, match=r"no block finetun\."):
        planner(study(set={"finetun.steps": 1})).run("original", 4, 0, {})
    variants = {"original": {"about": "a", "pretext": "original"}, "x": {"about": "b", "pretext": "rotate"}}
    with pytest.raises(ValueError, match=r"no such pretext; one of original, rotated, "):
        study(variants=variants)
    with pytest.raises(FacerepError, match=r"no such preset: faces; one of demo, folder, lfw"):
        planner(study(preset="faces"))
