"""A backbone with a pretext's heads: what is saved beside the backbone and comes back, and the heads' starting weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModel

from facerep.faces.draws import Draws
from facerep.nets.features import stages_of
from facerep.pretexts import PRETEXTS
from facerep.pretrain.model import HEADS, load_pretext_model, save_pretext_model
from facerep.pretrain.pretext import Pretext, network_inputs
from tests.support.asked import asked, batch_of
from tests.support.micro import curves_of, pretext_model, pretraining

NAMES = [name for name in PRETEXTS if name not in ("original", "distillation")]
NAMES += ["rotated+simclr", "rotated_grayscale+simclr", "simclr+supervised"]


def assert_same(a: nn.Module, b: nn.Module) -> None:
    assert a.state_dict().keys() == b.state_dict().keys()
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name]), name


def flat(answers: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value if isinstance(value, Tensor) else value.vectors for name, value in answers.items()}


@pytest.mark.parametrize(("name", "loss"), [*((name, "l2") for name in NAMES), ("grayscale", "classes")])
def test_a_model_comes_back_with_its_heads_and_settings(name: str, loss: str, tmp_path: Path) -> None:
    given = {"color_space": "lab", "reconstruction_loss": loss, "temperature": 0.2, "rotations": "all"}
    settings = pretraining(**given, turns_weight=0.7)
    pretext = Pretext(name, settings)
    model = pretext_model(name, settings=settings, identities=5)
    inputs = network_inputs(pretext.ask(batch_of([3, 4, 5], 32), Draws(0, 0), True)[0])
    with torch.no_grad():
        model.train()(inputs)  # so that a norm's statistics are not those of the start
        model.eval()
    for folder in ("a", "b"):
        save_pretext_model(model, pretext, tmp_path / folder)
    found = load_pretext_model(tmp_path / "a")
    assert found is not None
    again, loaded = found
    assert (again.name, again.params, again.settings) == (name, settings, pretext.settings)
    assert not loaded.training
    assert_same(loaded, model)
    with torch.no_grad():
        said, expected = flat(loaded(inputs)), flat(model(inputs))
    assert said.keys() == {question.name for question in pretext.questions}
    assert all(torch.equal(said[part], expected[part]) for part in expected)
    assert curves_of(tmp_path / "a") == curves_of(tmp_path / "b"), "the same weights are the same bytes"
    # what else reads the folder sees a backbone and nothing more
    assert_same(AutoModel.from_pretrained(tmp_path / "a"), model.backbone)
    with safe_open(tmp_path / "a" / HEADS, "pt") as file:
        about = json.loads(file.metadata()["pretext"])
    assert about == {"name": name, "pretrain": json.loads(settings.model_dump_json())}


@pytest.mark.parametrize("identities", [2, 9])
def test_the_head_knows_as_many_names_as_it_was_trained_with(identities: int, tmp_path: Path) -> None:
    model = pretext_model("supervised", identities=identities)
    save_pretext_model(model, Pretext("supervised", pretraining()), tmp_path)
    found = load_pretext_model(tmp_path)
    assert found is not None
    images = {"shared": torch.zeros(2, 3, 32, 32)}
    assert found[1](images)["names"].shape == (2, identities)


def test_the_baseline_leaves_no_head(tmp_path: Path) -> None:
    save_pretext_model(pretext_model("original"), Pretext("original", pretraining()), tmp_path)
    assert load_pretext_model(tmp_path) is None
    assert not (tmp_path / HEADS).exists()


def test_each_head_answers_from_the_features_of_its_input() -> None:
    pretext, shown, _ = asked("rotated_grayscale+simclr", batch_of([3, 4, 5], 64), True)
    model = pretext_model(pretext.name, settings=pretext.params).eval()
    inputs = network_inputs(shown)
    with torch.no_grad():
        answers = flat(model(inputs))
        features = {name: stages_of(model.backbone, images) for name, images in inputs.items()}
        for name, source in (("turns", "turns"), ("colors", "shared"), ("views", "shared")):
            expected = flat({name: model.heads[name](features[source])})[name]
            assert torch.equal(answers[name], expected)
    assert {name: tuple(value.shape) for name, value in answers.items()} == {
        "turns": (3, 4),
        "colors": (3, 3, 64, 64),
        "views": (6, 128),
    }
