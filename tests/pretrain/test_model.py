"""A backbone with a pretext's heads: its answers, and what is saved beside the backbone."""

import json
from pathlib import Path

import pytest
import torch
from facerep.pretrain.pretexts import PRETEXTS, pretext_named
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModel, ConvNextConfig, ConvNextModel

from facerep.nets.convnext import image_processor, load_backbone
from facerep.pretrain.model import HEAD, PretextModel, load_pretext_model, save_pretext_model
from facerep.pretrain.pretext import Variant
from tests.support.micro import curves_of, pretext_model, pretraining


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone of a few thousand weights, saved as the pretrain stage does."""
    out = tmp_path_factory.mktemp("models") / "pretrained"
    torch.manual_seed(5)
    ConvNextModel(ConvNextConfig(depths=[1, 1, 1, 2], hidden_sizes=[8, 8, 16, 16])).save_pretrained(out)
    image_processor(32).save_pretrained(out)
    return out


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def assert_same(a: nn.Module, b: nn.Module) -> None:
    assert a.state_dict().keys() == b.state_dict().keys()
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name]), name


@pytest.mark.parametrize("name", ["rotated", "grayscale", "rotated_grayscale", "original"])
def test_a_pretext_model_answers_for_every_photograph(name: str, folder: Path, images: torch.Tensor) -> None:
    backbone = load_backbone(folder)
    answer = PretextModel(backbone, pretext_named(name).head(16))(images)
    if "rotated" in name:
        assert answer.turn_logits.shape == (2, 4)
    if "grayscale" in name:
        assert answer.pixels.shape == images.shape


@pytest.mark.parametrize("name", [name for name in PRETEXTS if name != "original"])
def test_a_pretext_model_comes_back_with_its_head_and_its_variant(
    name: str, images: torch.Tensor, tmp_path: Path
) -> None:
    settings = pretraining(color_space="lab", temperature=0.2, loss_weighting="uncertainty", rotations="all")
    pretext, model = pretext_named(name, settings), pretext_model(name, settings=settings, identities=5).eval()
    for folder in ("a", "b"):
        save_pretext_model(model, pretext, tmp_path / folder)
    found = load_pretext_model(tmp_path / "a")
    assert found is not None
    again, loaded = found
    assert (again.name, again.variant) == (name, Variant.of(settings))
    assert again.asked == pretext.asked
    assert not loaded.training
    assert_same(loaded, model)
    with torch.no_grad():
        said, expected = loaded(images), model(images)
    for got, known in zip(said, expected, strict=True):
        assert (got is None) == (known is None)
        assert got is None or torch.equal(got, known)
    assert curves_of(tmp_path / "a") == curves_of(tmp_path / "b"), "the same weights are the same bytes"
    # what else reads the folder sees a backbone and nothing more
    assert_same(AutoModel.from_pretrained(tmp_path / "a"), model.backbone)


def test_the_head_knows_as_many_names_as_it_was_trained_with(images: torch.Tensor, tmp_path: Path) -> None:
    for identities in (2, 9):
        model = pretext_model("supervised", identities=identities)
        save_pretext_model(model, pretext_named("supervised"), tmp_path / str(identities))
        found = load_pretext_model(tmp_path / str(identities))
        assert found is not None
        assert found[1](images).name_logits.shape == (2, identities)


def test_a_head_that_was_saved_before_there_was_a_temperature_loads_with_the_default(tmp_path: Path) -> None:
    """Models that are published already name the fields that there were then."""
    model = pretext_model("rotated")
    save_pretext_model(model, pretext_named("rotated"), tmp_path)
    about = {"name": "rotated", "rotations": "all", "color_space": "rgb", "reconstruction_loss": "l2"}
    about |= {"loss_weighting": "fixed", "reconstruction_weight": 1.0}  # type: ignore[dict-item]
    save_file(dict(model.head.state_dict()), tmp_path / HEAD, {"pretext": json.dumps(about)})
    found = load_pretext_model(tmp_path)
    assert found is not None
    assert found[0].variant == Variant(rotations="all")


def test_the_baseline_leaves_no_head(tmp_path: Path) -> None:
    save_pretext_model(pretext_model("original"), pretext_named("original"), tmp_path)
    assert load_pretext_model(tmp_path) is None
    assert not (tmp_path / HEAD).exists()
