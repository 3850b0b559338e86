"""A pretext's head: the parts that are asked for, in their shapes, and what they compute by plain arithmetic."""

import pytest
import torch
from torch import nn

from facerep.pretrain.heads import Answer, PretextHead, Projection
from facerep.pretrain.pretext import Truth
from facerep.pretrain.pretexts import PRETEXTS, pretext_named
from tests.support.micro import pretext_model, pretraining

SHAPES = {
    "original": {},
    "rotated": {"turn_logits": (6, 4)},
    "grayscale": {"pixels": (6, 3, 64, 64)},
    "rotated_grayscale": {"turn_logits": (6, 4), "pixels": (6, 3, 64, 64)},
    "simclr": {"projections": (6, 128)},
    "supervised": {"name_logits": (6, 11)},
}


@pytest.mark.parametrize("channels", [16, 40])
@pytest.mark.parametrize("name", PRETEXTS)
def test_a_pretexts_head_gives_the_answers_that_it_asks_for_and_no_others(name: str, channels: int) -> None:
    head = pretext_named(name).head(channels, 11)
    answer = head(torch.randn(6, channels, 2, 2), torch.randn(6, channels))
    assert {part: tuple(value.shape) for part, value in answer._asdict().items() if value is not None} == SHAPES[name]
    assert head.pools == bool({"turn_logits", "projections", "name_logits"} & set(SHAPES[name]))


def test_the_projection_is_two_layers_with_a_relu_between_them_by_plain_arithmetic() -> None:
    """Chen et al. 2020, section 2.1: g(h) = W2 σ(W1 h), of as many hidden units as features; ours has biases."""
    torch.manual_seed(0)
    head, pooled = PretextHead(12, projects=True), torch.randn(5, 12)
    weights = {name: value.double() for name, value in head.state_dict().items()}
    assert {name: tuple(value.shape) for name, value in weights.items()} == {
        "projection.0.weight": (12, 12),
        "projection.0.bias": (12,),
        "projection.2.weight": (128, 12),
        "projection.2.bias": (128,),
    }
    hidden = (weights["projection.0.weight"] @ pooled.double().T).T + weights["projection.0.bias"]
    expected = (weights["projection.2.weight"] @ hidden.clamp_min(0).T).T + weights["projection.2.bias"]
    projections = head(torch.randn(5, 12, 1, 1), pooled).projections
    assert torch.allclose(projections.double(), expected, atol=1e-5)
    # no batch norm: a photograph's projection does not depend on its company
    assert torch.allclose(head(torch.zeros(1, 12, 1, 1), pooled[3:4]).projections[0], projections[3], atol=1e-6)
    assert not [part for part in Projection(12).modules() if isinstance(part, nn.modules.batchnorm._NormBase)]


def test_names_are_told_by_a_linear_layer_of_the_pooled_features() -> None:
    torch.manual_seed(0)
    head, pooled = PretextHead(12, names=7), torch.randn(5, 12)
    weights = head.state_dict()
    assert set(weights) == {"names.weight", "names.bias"}
    said = head(torch.randn(5, 12, 1, 1), pooled).name_logits
    assert torch.allclose(said, pooled @ weights["names.weight"].T + weights["names.bias"], atol=1e-6)


@pytest.mark.parametrize("name", [name for name in PRETEXTS if name != "original"])
def test_every_weight_that_is_trained_gets_a_gradient(name: str) -> None:
    """Else many processes would wait for it for ever; and the pooled features' norm learns where they are asked for."""
    pretext = pretext_named(name, pretraining())
    model = pretext_model(name, identities=3)
    truth = Truth(turns=torch.tensor([0, 1, 2, 3]), pixels=torch.zeros(4, 3, 32, 32), names=torch.tensor([0, 1, 2, 0]))
    answer: Answer = model(torch.randn(4, 3, 32, 32))
    pretext.losses(answer, truth).mean().backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert without == []
    assert model.backbone.layernorm.weight.requires_grad == (name != "grayscale")
