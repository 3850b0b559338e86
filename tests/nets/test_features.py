"""The stages' maps and the pooled output, compared with what transformers gives for the same weights."""

import copy

import pytest
import torch
from torch import Tensor, nn
from transformers import ConvNextConfig, ConvNextModel

from facerep.nets.fast import make_fast
from facerep.nets.features import pooled_stages, stages_of

WIDTHS = [8, 12, 16, 24]


def backbone() -> nn.Module:
    torch.manual_seed(3)
    config = ConvNextConfig(depths=[1, 2, 1, 2], hidden_sizes=WIDTHS, layer_scale_init_value=1.0)
    return ConvNextModel(config).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("quick", [False, True])
def test_maps_and_pooled_output_are_those_that_transformers_gives(quick: bool, images: Tensor) -> None:
    theirs = backbone()
    ours = copy.deepcopy(theirs)
    if quick:
        make_fast(ours)
    with torch.no_grad():
        expected = theirs(images, output_hidden_states=True)
        got = stages_of(ours, images)
    assert [tuple(stage.shape) for stage in got.maps] == [
        (3, width, 16 >> n, 24 >> n) for n, width in enumerate(WIDTHS)
    ]
    hidden = expected.hidden_states[-4:]
    for stage, known in zip(got.maps, hidden, strict=True):
        assert known.std() > 0.1
        torch.testing.assert_close(stage, known, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.maps[-1], expected.last_hidden_state, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.pooled, expected.pooler_output, rtol=1e-4, atol=1e-5)


def test_in_bf16_they_are_what_a_whole_pass_gives_to_the_bit(images: Tensor) -> None:
    model = backbone()
    make_fast(model)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        got, whole = stages_of(model, images), model(images)
    assert torch.equal(got.maps[-1], whole.last_hidden_state)
    assert torch.equal(got.pooled, whole.pooler_output)
    assert {stage.dtype for stage in got.maps} == {got.pooled.dtype} == {torch.float32}


def test_gradients_reach_every_weight_and_are_those_of_a_whole_pass(images: Tensor) -> None:
    model, same = backbone(), backbone()
    make_fast(model)
    make_fast(same)
    stages_of(model, images).pooled.square().sum().backward()
    same(images).pooler_output.square().sum().backward()
    for (name, got), known in zip(model.named_parameters(), same.parameters(), strict=True):
        assert got.grad is not None and torch.equal(got.grad, known.grad), name


def test_each_stage_is_pooled_to_its_mean_and_the_last_one_normed(images: Tensor) -> None:
    model = backbone()
    with torch.no_grad():
        features = stages_of(model, images)
    pooled = pooled_stages(features)
    assert [vector.shape for vector in pooled] == [(3, width) for width in WIDTHS]
    for vector, stage in zip(pooled[:-1], features.maps, strict=False):
        torch.testing.assert_close(vector, stage.flatten(2).sum(2) / stage[0, 0].numel())
    assert torch.equal(pooled[-1], model(images).pooler_output)
