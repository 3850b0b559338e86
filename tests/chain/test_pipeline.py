"""dvc.yaml, resolved as DVC resolves it, asserted literally. Its code deps: tests/test_house.py."""

import pytest
import yaml
from dvc.config import Config
from dvc.repo import Repo

from facerep.params import Crop
from tests.support.paths import ROOT

STAGES = ("download", "crop", "select", "pretrain", "probe", "finetune", "evaluate")
RUNTIME = ["seed", "device", "precision", "threads"]
TRAINING = [*RUNTIME, "memory_mb", "compile", "model"]
CROP = ("method", "extend", "size", "quality", "shard_mb", "max_unreadable", "max_megapixels", "oversample")
SELECTED = ["data/faces", "data/selection.parquet"]
EXPECTED = {
    "download": {"params": ["download"], "data": [], "outs": ["data/raw", "metrics/download.json"]},
    "crop": {
        "params": [*(f"crop.{key}" for key in CROP), "select.per_identity"],
        "data": ["data/raw"],
        "outs": ["data/faces", "metrics/crop.json"],
    },
    "select": {
        "params": ["seed", "select", "pretrain.include_labelled", "pretrain.score_knn_every"],
        "data": ["data/faces", "exclude.txt"],
        "outs": [
            *("data/dropped.parquet", "data/selection.parquet", "data/pretraining.parquet"),
            *("metrics/select.json", "metrics/select"),
        ],
    },
    "pretrain": {
        "params": ["pretext", *TRAINING[1:], "pretrain"],  # not the seed: it has its own
        "data": ["data/faces", "data/pretraining.parquet"],
        "outs": ["models/pretrained", "metrics/pretrain.json", "metrics/pretrain"],
    },
    "probe": {
        "params": [*RUNTIME, "measure", "model.image_size", "probe"],
        "data": [*SELECTED, "models/pretrained"],
        "outs": ["metrics/probe.json", "metrics/answers/probe.json", "metrics/probe"],
    },
    "finetune": {
        "params": [*TRAINING, "measure", "finetune"],
        "data": [*SELECTED, "models/pretrained"],
        "outs": ["models/finetuned", "metrics/finetune.json", "metrics/finetune"],
    },
    "evaluate": {
        "params": [*RUNTIME, "evaluate"],
        "data": [*SELECTED, "models/finetuned", "metrics/pretrain", "metrics/finetune"],
        "outs": ["metrics/evaluate.json", "metrics/answers/evaluate.json", "metrics/evaluate"],
    },
}


@pytest.fixture(scope="module")
def stages() -> dict:
    """The stages of the repository as DVC sees them, by name."""
    with Repo(str(ROOT)) as repo:
        return {stage.name: stage for stage in repo.index.stages if getattr(stage, "name", None)}


def test_there_are_seven_stages(stages: dict) -> None:
    assert sorted(stages) == sorted(STAGES)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_what_we_say(stages: dict, name: str) -> None:
    stage, expected = stages[name], EXPECTED[name]
    assert stage.cmd == f"python -m stages.{name}"  # params.yaml's launcher, where it trains
    assert stage.desc
    params = [key for dep in stage.deps for key in getattr(dep, "params", [])]
    paths = [dep.def_path for dep in stage.deps if not hasattr(dep, "params")]
    data = [path for path in paths if not path.startswith(("stages/", "src/"))]
    assert sorted(params) == sorted(expected["params"])
    assert sorted(data) == sorted(expected["data"])
    assert sorted(out.def_path for out in stage.outs) == sorted(expected["outs"])
    for out in stage.outs:
        in_git = out.def_path.startswith("metrics/")
        assert out.use_cache is not in_git, f"{out.def_path}: metrics belong to git, data and models to the cache"
        assert not out.persist


def test_crop_depends_on_all_its_parameters_but_where_it_runs() -> None:
    assert {*CROP, "executor"} == set(Crop.model_fields)


def test_labels_are_counted_by_the_stages_after_pretraining_alone(stages: dict) -> None:
    """So that one selection and one pretrained model serve every budget: as DVC itself reads what they depend on."""
    values = {
        name: repr([dep.read_params() for dep in stage.deps if hasattr(dep, "params")])
        for name, stage in stages.items()
    }
    assert [name for name in STAGES if "'labels_per_identity'" in values[name]] == ["finetune"]
    assert [name for name in STAGES if "'labels': [" in values[name]] == ["probe"]
    assert "'score_every'" in values["pretrain"], "this looks inside the blocks"


def test_no_budget_of_labels_runs_the_probe_again(stages: dict) -> None:
    """It scores the pretrained model: nothing that fine-tuning makes or is told is among its deps."""
    told = [dep.def_path for dep in stages["probe"].deps] + [
        key for dep in stages["probe"].deps for key in getattr(dep, "params", [])
    ]
    assert [each for each in told if "finetune" in each] == []


def test_nothing_of_the_labelled_task_pretrains_again(stages: dict) -> None:
    """Neither its seed nor what fine-tuning is told; the labelled photographs only where they join."""
    deps = list(stages["pretrain"].deps)
    told = [dep.def_path for dep in deps] + [key for dep in deps for key in getattr(dep, "params", [])]
    assert [each for each in told if each in ("seed", "measure") or "finetune" in each or "selection" in each] == []
    assert "data/pretraining.parquet" in [out.def_path for out in stages["select"].outs]


def test_the_top_level_sections() -> None:
    text = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    assert text["artifacts"]["pretrained"]["path"] == "models/pretrained"
    assert text["artifacts"]["finetuned"]["path"] == "models/finetuned"
    assert {artifact["type"] for artifact in text["artifacts"].values()} == {"model"}
    assert text["metrics"] == ["speed/pretrain.json", "speed/finetune.json"], "which no stage may have as an output"
    assert text["plots"]


def test_the_committed_configuration_sends_nobody_to_a_bucket() -> None:
    """Each experiment would ask it first: a stranger's, or for minutes none at all."""
    config = Config.load_file(str(ROOT / ".dvc" / "config"))
    assert {section: values for section, values in config.items() if values} == {
        "core": {"analytics": "false", "autostage": "false"}
    }
