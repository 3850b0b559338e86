"""The fast ConvNeXt against transformers' own, weight by weight; stochastic depth by sample."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import (
    AutoModelForImageClassification,
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextModel,
    ConvNextV2Config,
    ConvNextV2ForImageClassification,
)
from transformers.models.convnext.modeling_convnext import ConvNextLayer
from transformers.models.convnextv2.modeling_convnextv2 import ConvNextV2Layer

from facerep.faces.draws import Draws
from facerep.nets.fast import (
    DROP_PATH,
    FastLayer,
    SampleDropPath,
    compile_blocks,
    draw_drop_path,
    make_fast,
    response,
)

DEPTHS, WIDTHS = [2, 1, 2, 1], [8, 12, 16, 24]


def network(drop_path: float = 0.0, layer_scale: float = 1.0, num_labels: int = 5) -> ConvNextForImageClassification:
    """A small network whose blocks matter: a fresh one multiplies what they say by 1e-6."""
    torch.manual_seed(3)
    config = ConvNextConfig(
        depths=DEPTHS, hidden_sizes=WIDTHS, num_labels=num_labels, drop_path_rate=drop_path, image_size=32
    )
    config.layer_scale_init_value = layer_scale
    model = ConvNextForImageClassification(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:  # biases, norms and layer scales of their own, so that none is left out unseen
                parameter += 0.1 * torch.randn_like(parameter)
            elif "dwconv" in name or "pwconv" in name:
                parameter *= 10
    return model


def network_v2(drop_path: float = 0.0) -> ConvNextV2ForImageClassification:
    """The same for V2, whose fresh GRN does nothing."""
    torch.manual_seed(3)
    config = ConvNextV2Config(depths=DEPTHS, hidden_sizes=WIDTHS, num_labels=5, drop_path_rate=drop_path, image_size=32)
    model = ConvNextV2ForImageClassification(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter += 0.1 * torch.randn_like(parameter)
            elif ".grn." in name:
                parameter += torch.randn_like(parameter)
            elif "dwconv" in name or "pwconv" in name:
                parameter *= 10
    return model


def blocks_of(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, ConvNextLayer | ConvNextV2Layer | FastLayer)]


KINDS = {"v1": network, "v2": network_v2}


def fast(model: nn.Module) -> nn.Module:
    ours = copy.deepcopy(model)
    make_fast(ours)
    return ours


@pytest.fixture
def images() -> Tensor:
    return torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def off(got: Tensor, expected: Tensor) -> float:
    """How far `got` is off, as a share of `expected`."""
    return float((got.double() - expected.double()).norm() / expected.double().norm())


def gradients(model: nn.Module, images: Tensor, autocast: bool = False, device: str = "cpu") -> dict[str, Tensor]:
    """Output, and the gradients of the input and of every weight; as reckoned on `device`, on the CPU."""
    model.to(device)
    images = images.to(device).clone().requires_grad_()
    with torch.autocast(device, torch.bfloat16, enabled=autocast):
        logits = model(images).logits
    target = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
    (logits.float() * target.to(device)).sum().backward()
    assert images.grad is not None
    out = {"logits": logits.detach(), "images": images.grad}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        out[name] = parameter.grad
    return {name: tensor.cpu() for name, tensor in out.items()}


def assert_fast_is_the_same(theirs: nn.Module, images: Tensor) -> None:
    """Outputs and all gradients, with fast blocks in channels_last and as transformers has them."""
    expected = gradients(theirs, images)
    layout = images.contiguous(memory_format=torch.channels_last)
    got = gradients(fast(theirs).to(memory_format=torch.channels_last), layout)
    assert got.keys() == expected.keys()
    assert {name: round(off(got[name], expected[name]), 5) for name in expected} == dict.fromkeys(expected, 0.0)
    assert all(tensor.norm() > 1e-3 for tensor in expected.values()), "nothing is compared with nothing"


@pytest.mark.parametrize("layer_scale", [1.0, 0.0], ids=["scaled", "unscaled"])
@pytest.mark.parametrize("training", [True, False])
def test_outputs_and_gradients_are_those_of_transformers(training: bool, layer_scale: float, images: Tensor) -> None:
    theirs = network(layer_scale=layer_scale).train(training)
    assert (theirs.convnext.encoder.stages[0].layers[0].layer_scale_parameter is None) == (layer_scale == 0)
    assert_fast_is_the_same(theirs, images)


@pytest.mark.parametrize("training", [True, False])
def test_outputs_and_gradients_of_v2_are_those_of_transformers(training: bool, images: Tensor) -> None:
    assert_fast_is_the_same(network_v2().train(training), images)


def test_the_response_of_a_channel_is_its_norm_in_shares_of_the_mean(images: Tensor) -> None:
    """By hand: one sample of 1×2 places, channels (3, 4) and (0, 5): norms 5 and 5; then (6, 8) and (0, 0)."""
    x = torch.tensor([[[[3.0, 0.0], [4.0, 5.0]]], [[[6.0, 0.0], [8.0, 0.0]]]])
    expected = torch.tensor([[1.0, 1.0], [2.0, 0.0]]).view(2, 1, 1, 2)
    torch.testing.assert_close(response(x), expected, rtol=1e-6, atol=1e-6)
    assert response(x.bfloat16()).dtype == torch.float32


CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.fixture
def no_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a GPU's convolutions of fp32 keep ten bits of a product's factors."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.gpu
@CUDA
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_gpu_answers_and_learns_as_a_processor_does(
    kind: Callable[[], nn.Module], images: Tensor, no_tf32: None
) -> None:
    """In fp32 without TF32; in bf16 as near to that as transformers' own is there, within half as much again."""
    theirs = kind()
    exact = gradients(copy.deepcopy(theirs), images)
    got = gradients(fast(theirs), images, device="cuda")
    rounded = gradients(copy.deepcopy(theirs), images, autocast=True, device="cuda")
    ours = gradients(fast(theirs), images, autocast=True, device="cuda")
    assert max(off(got[name], exact[name]) for name in exact) < 1e-3
    error, allowed = (sum(off(them[name], exact[name]) for name in exact) for them in (ours, rounded))
    assert 0 < error < 1.5 * allowed < 0.15 * len(exact)


@pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda", marks=[pytest.mark.gpu, CUDA])]
)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_compiled_blocks_answer_and_learn_as_the_others(
    kind: Callable[[], nn.Module], device: str, images: Tensor, no_tf32: None
) -> None:
    """For one size of batch and, compiled once more, for any; blocks of one shape share what is compiled."""
    compiled = fast(kind())
    compile_blocks(compiled)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    graphs = []
    for size in (6, 6, 5, 4, 3):
        expected = gradients(kind(), images[:size])
        compiled.zero_grad()
        got = gradients(compiled, images[:size], device=device)
        assert max(off(got[name], expected[name]) for name in expected) < 0.01
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs[0] == graphs[1] == len(DEPTHS), "one for each stage"
    assert graphs[1] < graphs[2] == graphs[3] == graphs[4], "and once more for every other size together"


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_in_bf16_it_is_as_near_to_fp32_as_transformers_is(kind: Callable[[], nn.Module], images: Tensor) -> None:
    """Within half as much again, summed over all weights."""
    theirs = kind()
    exact = gradients(copy.deepcopy(theirs), images)
    rounded = gradients(copy.deepcopy(theirs), images, autocast=True)
    ours = gradients(fast(theirs), images, autocast=True)
    assert ours["logits"].dtype == rounded["logits"].dtype
    for tensors in (["logits"], ["images"], [name for name in exact if name not in ("logits", "images")]):
        error, allowed = (sum(off(them[name], exact[name]) for name in tensors) for them in (ours, rounded))
        assert 0 < error < 1.5 * allowed
        assert allowed < 0.1 * len(tensors)


def test_the_residual_stream_stays_fp32_in_bf16(images: Tensor) -> None:
    """As transformers' does, whose fp32 layer scale promotes it; in bf16 what a fresh block adds is rounded away.

    V2 has no layer scale, and transformers' own stream is bf16 there.
    """
    theirs = network()
    for model in (theirs, fast(theirs), fast(network_v2())):
        given_back: list[torch.dtype] = []
        for layer in blocks_of(model):
            layer.register_forward_hook(lambda _, __, out, seen=given_back: seen.append(out.dtype))
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            model(images)
        assert given_back == [torch.float32] * sum(DEPTHS)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_modules_weights_and_names_stay(kind: Callable[..., nn.Module], images: Tensor) -> None:
    theirs = kind(drop_path=0.3)
    ours = fast(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))
    assert [name for name, _ in ours.named_modules()] == [name for name, _ in theirs.named_modules()]
    theirs.load_state_dict(ours.state_dict())


def test_all_blocks_of_every_kind_of_model_are_fast() -> None:
    backbone = ConvNextModel(ConvNextConfig(depths=DEPTHS, hidden_sizes=WIDTHS))
    for model in (network(), network_v2(), backbone, nn.ModuleDict({"backbone": backbone})):
        make_fast(model)
        blocks = blocks_of(model)
        assert len(blocks) == sum(DEPTHS)
        assert all(type(block) is FastLayer for block in blocks)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_saved_folder_is_transformers_own(kind: Callable[..., nn.Module], images: Tensor, tmp_path: Path) -> None:
    theirs = kind(drop_path=0.3)
    ours = fast(theirs).to(memory_format=torch.channels_last).eval()
    ours.save_pretrained(tmp_path)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    assert type(loaded) is type(theirs)
    assert not any(isinstance(m, FastLayer | SampleDropPath) for m in loaded.modules())
    assert loaded.config.architectures == [type(theirs).__name__]
    with torch.no_grad():
        assert torch.allclose(loaded(images).logits, ours(images).logits, rtol=1e-4, atol=1e-5)


def test_what_is_fast_already_stays_as_it_is() -> None:
    """A model may be trained twice in one process."""
    model = fast(network(drop_path=0.3))
    rates = [(m.rate, m.stream) for m in model.modules() if isinstance(m, SampleDropPath)]
    make_fast(model)
    assert [(m.rate, m.stream) for m in model.modules() if isinstance(m, SampleDropPath)] == rates


# Stochastic depth


def paths(model: nn.Module) -> list[SampleDropPath]:
    return [module for module in model.modules() if isinstance(module, SampleDropPath)]


def kept_of(model: nn.Module, samples: list[int], draws: Draws) -> Tensor:
    """Which sample takes which block, float32 samples×blocks."""
    draw_drop_path(model, torch.tensor(samples), draws)
    return torch.stack([path.kept for path in paths(model) if path.kept is not None], 1)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_rates_grow_from_nothing_to_the_asked_one_as_transformers_has_them(
    kind: Callable[..., nn.Module],
) -> None:
    theirs = kind(drop_path=0.4)
    rates = [getattr(m.drop_path, "drop_prob", 0.0) for m in blocks_of(theirs)]
    ours = [getattr(m.drop_path, "rate", 0.0) for m in blocks_of(fast(theirs))]
    assert ours == rates
    assert ours == pytest.approx([0.0, 0.08, 0.16, 0.24, 0.32, 0.4])
    streams = [path.stream for path in paths(fast(theirs))]
    assert len(set(streams)) == len(streams)
    assert min(streams) >= DROP_PATH


@given(
    st.lists(st.integers(0, 10**6), min_size=1, max_size=20, unique=True),
    st.integers(0, 2**31 - 1),
    st.integers(0, 1000),
)
def test_a_sample_takes_the_same_blocks_in_any_company(samples: list[int], seed: int, epoch: int) -> None:
    model = fast(network(drop_path=0.6))
    together = kept_of(model, samples, Draws(seed, epoch))
    for n, sample in enumerate(samples):
        assert torch.equal(kept_of(model, [sample], Draws(seed, epoch))[0], together[n])
    assert torch.equal(kept_of(model, samples[::-1], Draws(seed, epoch)), together.flip(0))


def test_rates_and_scales_are_right_and_blocks_epochs_and_seeds_independent() -> None:
    """Over 20,000 samples: a share is off by less than five standard deviations."""
    model, count = fast(network(drop_path=0.5)), 20_000
    kept = kept_of(model, list(range(count)), Draws(7, 3))
    rates = torch.tensor([path.rate for path in paths(model)])
    assert torch.equal(kept.unique().sort().values, torch.cat([torch.zeros(1), 1 / (1 - rates)]).unique().sort().values)
    skipped = (kept == 0).double()
    deviation = (rates * (1 - rates) / count).sqrt()
    assert ((skipped.mean(0) - rates).abs() < 5 * deviation).all()
    assert (kept.mean(0) - 1).abs().max() < 0.05, "what is expected of a block is what it gives when none is skipped"
    others = [(kept_of(model, list(range(count)), Draws(*other)) == 0).double() for other in ((7, 4), (8, 3))]
    columns = torch.cat([skipped, *others], 1).T
    assert (torch.corrcoef(columns) - torch.eye(len(columns), dtype=torch.float64)).abs().max() < 5 / count**0.5


def test_skipped_blocks_give_their_input_and_taken_ones_are_scaled(images: Tensor) -> None:
    """One block by itself, against what it gives without stochastic depth."""
    theirs = network(drop_path=0.5)
    ours = fast(theirs).train()
    block = ours.convnext.encoder.stages[3].layers[0]
    assert block.drop_path.rate == 0.5
    features = torch.randn(6, WIDTHS[3], 4, 4, generator=torch.Generator().manual_seed(2))
    block.drop_path.kept = torch.tensor([0.0, 2.0, 0.0, 2.0, 2.0, 0.0])
    with torch.no_grad():
        got = block(features)
        added = theirs.eval().convnext.encoder.stages[3].layers[0](features) - features
    for n, factor in enumerate(block.drop_path.kept):
        assert torch.allclose(got[n], features[n] + factor * added[n], rtol=1e-4, atol=1e-4)
    assert added.abs().max() > 0.1


def test_it_is_at_work_in_training_and_off_elsewhere(images: Tensor) -> None:
    model = fast(network(drop_path=0.9))
    with torch.no_grad():
        outputs = []
        for epoch in range(4):
            draw_drop_path(model, torch.arange(6), Draws(0, epoch))
            outputs.append(model.train()(images).logits)
        assert len({out.sum().item() for out in outputs}) == 4
        assert torch.allclose(model.eval()(images).logits, network().eval()(images).logits, rtol=1e-4, atol=1e-4)


def test_a_batch_trains_as_its_samples_by_themselves(images: Tensor) -> None:
    """So that a batch may be cut into parts, or shared by processes."""
    model = fast(network(drop_path=0.6)).train()
    samples = torch.tensor([5, 90, 7, 8, 1, 0])
    with torch.no_grad():
        draw_drop_path(model, samples, Draws(0, 0))
        together = model(images).logits
        for n, sample in enumerate(samples):
            draw_drop_path(model, sample[None], Draws(0, 0))
            assert torch.allclose(model(images[n : n + 1]).logits[0], together[n], rtol=1e-4, atol=1e-4)


def test_inputs_that_follow_one_another_take_their_own_rows_of_the_draws(images: Tensor) -> None:
    """As many pretexts look at several inputs in a step, of several sizes: each as if it had been drawn for alone."""
    model = fast(network(drop_path=0.6)).train()
    samples, small = torch.tensor([5, 90, 7, 8, 1, 0, 15, 16]), images[:2, :, :32, :32]
    with torch.no_grad():
        draw_drop_path(model, samples, Draws(0, 0))
        first, second = model(images).logits, model(small).logits
        assert all(path.kept is not None and not len(path.kept) for path in paths(model)), "all draws are taken"
        for inputs, own, got in ((images, samples[:6], first), (small, samples[6:], second)):
            draw_drop_path(model, own, Draws(0, 0))
            assert torch.allclose(model(inputs).logits, got, rtol=1e-4, atol=1e-4)
        draw_drop_path(model, samples[:2], Draws(0, 0))
        assert not torch.allclose(model(small).logits, second, rtol=1e-2, atol=1e-2), "others skip other blocks"
