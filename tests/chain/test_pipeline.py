"""dvc.yaml, resolved as DVC resolves it, asserted literally; and its deps held against what the code imports."""

import ast
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from facerep.params import Crop
from tests.support.paths import ROOT

# They say what is refused, what is shown and where unfinished work waits; no byte of an output depends on them.
NO_DEPENDENCY = {"errors", "params", "progress", "scratch", "states", "places", "stopping"}
STAGES = ("download", "crop", "select", "pretrain", "finetune", "evaluate")
RUNTIME = ["seed", "device", "precision", "threads"]
TRAINING = [*RUNTIME, "compile"]
CROP = ("method", "extend", "size", "quality", "shard_mb", "max_unreadable", "max_megapixels", "oversample")
EXPECTED = {
    "download": {"params": ["demo.download"], "data": [], "outs": ["data/raw", "metrics/download.json"]},
    "crop": {
        "params": [*(f"demo.crop.{key}" for key in CROP), "demo.select.per_identity"],
        "data": ["data/raw"],
        "outs": ["data/faces", "metrics/crop.json"],
    },
    "select": {
        "params": ["seed", "demo.select"],
        "data": ["data/faces"],
        "outs": ["data/dropped.parquet", "data/selection.parquet", "metrics/select.json", "metrics/select"],
    },
    "pretrain": {
        "params": ["pretext", *TRAINING, "demo.model", "demo.pretrain"],
        "data": ["data/faces", "data/selection.parquet"],
        "outs": ["models/pretrained", "metrics/pretrain.json", "metrics/pretrain"],
    },
    "finetune": {
        "params": [*TRAINING, "demo.model", "demo.finetune"],
        "data": ["data/faces", "data/selection.parquet", "models/pretrained"],
        "outs": ["models/finetuned", "metrics/finetune.json", "metrics/finetune"],
    },
    "evaluate": {
        "params": [*RUNTIME, "demo.evaluate", "demo.pretrain"],
        "data": [
            "data/faces",
            "data/selection.parquet",
            "models/finetuned",
            "models/pretrained",
        ],
        "outs": ["metrics/evaluate.json", "metrics/answers.json", "metrics/evaluate"],
    },
}


@pytest.fixture(scope="module")
def stages() -> dict:
    """The stages of the repository as DVC sees them, by name."""
    with Repo(str(ROOT)) as repo:
        return {stage.name: stage for stage in repo.index.stages if getattr(stage, "name", None)}


def test_there_are_six_stages(stages: dict) -> None:
    assert sorted(stages) == sorted(STAGES)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_what_we_say(stages: dict, name: str) -> None:
    stage, expected = stages[name], EXPECTED[name]
    assert stage.cmd == f"python -m stages.{name}"  # params.yaml's launcher, where it trains
    assert stage.desc
    params = [key for dep in stage.deps for key in getattr(dep, "params", [])]
    data = [
        dep.def_path for dep in stage.deps if not hasattr(dep, "params") and not dep.def_path.endswith((".py", ".c"))
    ]
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
    assert [name for name in STAGES if "'probe_labels'" in values[name]] == ["evaluate"]
    assert "'score_every'" in values["pretrain"], "this looks inside the blocks"


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_the_code_that_it_imports(stages: dict, name: str) -> None:
    code = {dep.def_path for dep in stages[name].deps if dep.def_path.endswith((".py", ".c"))}
    modules = imported_modules(ROOT / "stages" / f"{name}.py") - NO_DEPENDENCY
    expected = {f"stages/{name}.py", *(f"src/facerep/{module}.py" for module in modules)}
    if "depthwise" in modules:
        expected.add("src/facerep/nets/depthwise.c")
    assert code == expected


def imported_modules(path: Path) -> set[str]:
    """The modules of facerep that a file imports, and those that they import, and so on."""
    found: set[str] = set()
    waiting = [path]
    while waiting:
        for node in ast.walk(ast.parse(waiting.pop().read_text())):
            names: list[str] = []
            if isinstance(node, ast.ImportFrom) and node.module == "facerep":
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("facerep."):
                names = [str(node.module).split(".")[1]]
            for module in set(names) - found:
                found.add(module)
                if module not in NO_DEPENDENCY:
                    waiting.append(ROOT / "src" / "facerep" / f"{module}.py")
    return found


def test_no_module_imports_a_stage_and_there_are_no_circles() -> None:
    for path in sorted((ROOT / "src" / "facerep").glob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
        names |= {str(n.module) for n in nodes if isinstance(n, ast.ImportFrom)}
        assert not any(name.split(".")[0] == "stages" for name in names)
        assert path.stem not in imported_modules(path), f"{path.name} is in a circle of imports"


def test_the_top_level_sections() -> None:
    text = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    assert text["artifacts"]["pretrained"]["path"] == "models/pretrained"
    assert text["artifacts"]["finetuned"]["path"] == "models/finetuned"
    assert {artifact["type"] for artifact in text["artifacts"].values()} == {"model"}
    assert text["metrics"] == [
        *(f"metrics/{name}.json" for name in STAGES),
        "speed/pretrain.json",
        "speed/finetune.json",
    ]
    assert text["plots"]


def test_the_default_remote_is_a_bucket() -> None:
    with Repo(str(ROOT)) as repo:
        assert repo.config["core"]["remote"] == "storage"
        assert repo.config["remote"]["storage"]["url"].startswith("gs://")
