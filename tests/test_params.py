"""params.yaml: the repository's own loads, and each kind of bad value is refused by one sentence that names its key."""

import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from facerep.core.errors import FacerepError
from facerep.params import load_params
from facerep.presets import flat
from tests.support.paths import ROOT

TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")


def with_value(key: str, value: Any) -> dict[str, Any]:
    """The repository's params with the value at a dotted key replaced; a number is a place in a list."""
    raw = copy.deepcopy(yaml.safe_load(TEXT))
    *path, last = (int(part) if part.isdigit() else part for part in key.split("."))
    block = raw
    for part in path:
        block = block[part]
    block[last] = value
    return raw


def sentence(tmp_path: Path, raw: Any) -> str:
    """What loading `raw` (or YAML text) is refused with."""
    file = tmp_path / "params.yaml"
    file.write_text(raw if isinstance(raw, str) else yaml.safe_dump(raw), encoding="utf-8")
    with pytest.raises(FacerepError) as refused:
        load_params(file)
    text = str(refused.value)
    assert text.startswith(f"{file}: ")
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_the_repositorys_own_file_loads_and_says_all_there_is_to_say() -> None:
    """No key has its value somewhere else: what stands there is what runs."""
    params = load_params(ROOT / "params.yaml")
    assert params.model_dump(exclude_unset=True) == yaml.safe_load(TEXT)
    assert dict(flat(params.model_dump())).keys() == dict(flat(yaml.safe_load(TEXT))).keys()


def test_every_key_has_a_comment() -> None:
    """On its line, the first time that it stands there: finetune has the keys of pretrain again. Blocks need none."""
    met: dict[str, str] = {}
    for line in TEXT.splitlines():
        key, colon, rest = line.strip().partition(":")
        if colon and re.fullmatch(r"\w+", key):
            met.setdefault(key, rest)
    assert len(met) > 50
    blocks = {name for name, value in yaml.safe_load(TEXT).items() if isinstance(value, dict)}
    assert [key for key, rest in met.items() if "#" not in rest and key not in blocks] == []


def test_it_is_short() -> None:
    """Four blocks for four data sets, 45 of their 76 keys alike, were over 300 columns of `dvc exp show`."""
    assert len(TEXT.splitlines()) <= 115


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("pretext", "grayscal", ["pretext = 'grayscal'", "rotated_grayscale"]),
        ("pretext", "simclr+rotated", ["pretext = 'simclr+rotated'", "write rotated+simclr"]),
        ("seed", -1, ["seed = -1", "greater than or equal to 0"]),
        ("seed", 0.5, ["seed = 0.5", "integer"]),
        ("seed", "0", ["seed = '0'", "integer"]),
        ("seed", True, ["seed = True", "integer"]),
        ("threads", 0, ["threads = 0"]),
        ("precision", "fp16", ["precision = 'fp16'", "bf16"]),
        ("device", "gpu", ["device = 'gpu'", "cuda"]),
        ("crop", None, ["crop = None"]),
        ("crop", [1], ["crop = [1]"]),
        ("crop.size", 8, ["crop.size = 8", "16"]),
        ("crop.size", 32, ["crop.size (32)", "model.image_size (64)"]),
        ("crop.quality", 101, ["crop.quality = 101", "100"]),
        ("crop.max_unreadable", -0.1, ["crop.max_unreadable = -0.1"]),
        ("crop.extend", float("nan"), ["crop.extend = nan"]),
        ("finetune.labels_per_identity", 0, ["finetune.labels_per_identity = 0"]),
        ("select.test_fraction", 0.9, ["select", "val_fraction + test_fraction", "below 1"]),
        ("model.image_size", 48, ["model.image_size = 48", "multiple of 32"]),
        ("model.layer_scale", 0.0, ["model.layer_scale = 0.0", "greater than 0"]),
        ("model.name", "", ["model.name = ''"]),
        ("pretrain.warmup_ratio", 1.0, ["pretrain.warmup_ratio = 1.0", "less than 1"]),
        ("finetune.warmup_ratio", float("nan"), ["finetune.warmup_ratio = nan"]),
        ("finetune.steps", 0, ["finetune.steps = 0", "greater than or equal to 1"]),
        ("finetune.epochs", 20, ["unknown key finetune.epochs", "steps"]),
        ("pretrain.keep", "first", ["pretrain.keep = 'first'", "last", "best"]),
        ("finetune.head", "means", ["finetune.head = 'means'", "class_means"]),
        ("pretrain.learning_rate", 0, ["pretrain.learning_rate = 0"]),
        ("pretrain.learning_rate", "fast", ["pretrain.learning_rate = 'fast'", "number"]),
        ("pretrain.weight_decay", float("nan"), ["pretrain.weight_decay = nan"]),
        ("pretrain.colors_weight", float("inf"), ["pretrain.colors_weight = inf"]),
        ("pretrain.turns_weight", 0, ["pretrain.turns_weight = 0"]),
        ("pretrain.hue", 0.6, ["pretrain.hue = 0.6"]),
        ("finetune.degrees", 181, ["finetune.degrees = 181"]),
        ("finetune.random_grayscale", 1.1, ["finetune.random_grayscale = 1.1"]),
        ("pretrain.random_erasing", float("nan"), ["pretrain.random_erasing = nan"]),
        ("pretrain.score_every", 0, ["pretrain.score_every = 0"]),
        ("pretrain.temperature", 0.0, ["pretrain.temperature = 0.0"]),
        ("pretrain.flip", "yes please", ["pretrain.flip", "boolean"]),
        ("finetune.trainable", "some", ["finetune.trainable = 'some'", "last_stage"]),
        ("finetune.label_smoothing", 1.0, ["finetune.label_smoothing = 1.0"]),
        ("probe.labels", [], ["probe.labels"]),
        ("probe.labels.1", 0, ["probe.labels.1 = 0"]),
        ("download.archives.0.sha256", "xyz", ["download.archives.0.sha256 = 'xyz'"]),
        ("download.archives.0.name", "../lfw.tgz", ["download.archives.0.name = '../lfw.tgz'"]),
        ("download.archives.0.name", "..", ["download.archives.0.name = '..'"]),
        ("download.archives", [], ["download.archives"]),
        ("crop.method", "middle", ["crop.method = 'middle'", "center"]),
        ("pretrain.schedule", "step", ["pretrain.schedule = 'step'", "cosine"]),
        ("memory_mb", -1, ["memory_mb = -1"]),
    ],
)
def test_a_bad_value_is_named(tmp_path: Path, key: str, value: Any, named: list[str]) -> None:
    text = sentence(tmp_path, with_value(key, value))
    for part in named:
        assert part in text


@pytest.mark.parametrize("head", ["class_means", "linear_probe"])
def test_a_head_from_features_that_are_drawn_anew_is_refused(head: str, tmp_path: Path) -> None:
    raw = with_value("finetune.head", head)
    raw["finetune"]["reset_last_stage"] = True
    text = sentence(tmp_path, raw)
    assert f"finetune: head ({head}) is made from the features of the last stage" in text
    assert "set head to random, or reset_last_stage to false" in text


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("pretexts", ["unknown key pretexts", "pretext", "seed", "probe"]),
        ("crops", ["unknown key crops", "crop", "select"]),
        ("crop.sizes", ["unknown key crop.sizes", "size", "quality"]),
        ("select.min_side", ["unknown key select.min_side", "min_labelled"]),
        ("pretrain.lr", ["unknown key pretrain.lr", "learning_rate", "colors_weight"]),
        ("download.archives.0.sha", ["unknown key download.archives.0.sha", "url", "sha256"]),
    ],
)
def test_an_unknown_key_is_named_with_those_that_are_known_there(tmp_path: Path, key: str, known: list[str]) -> None:
    text = sentence(tmp_path, with_value(key, 1))
    for part in known:
        assert part in text


def test_a_key_that_is_missing_is_named(tmp_path: Path) -> None:
    raw = with_value("seed", 0)
    del raw["crop"]["size"]
    assert "key crop.size is missing" in sentence(tmp_path, raw)


def test_a_mistyped_key_counts_what_else_is_wrong(tmp_path: Path) -> None:
    raw = with_value("pretextt", "rotated")
    del raw["pretext"]
    assert "(and 1 more)" in sentence(tmp_path, raw)


@pytest.mark.parametrize(
    "text",
    ["", "- a list", "just words", "a: [1", "{a: 1}: b", "1: 2", "seed: 0\nseed: 1\n", "\t"],
    ids=["empty", "list", "words", "broken", "key is a mapping", "key is a number", "key twice", "tab"],
)
def test_files_that_are_no_params_are_refused_by_a_sentence(tmp_path: Path, text: str) -> None:
    sentence(tmp_path, text)


def test_a_key_given_twice_is_named(tmp_path: Path) -> None:
    text = sentence(tmp_path, TEXT.replace("seed: 0 ", "seed: 0\nseed: 7 ", 1))
    assert "seed" in text
    assert "duplicate key" in text


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FacerepError, match=r"nowhere\.yaml: not there"):
        load_params(tmp_path / "nowhere.yaml")


def test_whole_numbers_serve_as_floats_and_yaml_1_2_floats_are_numbers(tmp_path: Path) -> None:
    """DVC reads params.yaml as YAML 1.2, where 1e-3 is a number; PyYAML alone takes it for a string."""
    file = tmp_path / "params.yaml"
    changed = TEXT.replace("learning_rate: 0.002 ", "learning_rate: 1e-3 ", 1).replace(
        "clip_norm: 1.0 ", "clip_norm: 1 "
    )
    assert changed != TEXT
    file.write_text(changed, encoding="utf-8")
    params = load_params(file)
    assert params.pretrain.learning_rate == 0.001
    assert params.pretrain.clip_norm == 1.0


def test_the_pretexts_names_are_known_without_torch() -> None:
    light = (
        "import sys, facerep.select.stage as _, facerep.params as p; p.load_params(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", light], check=True, cwd=ROOT)
