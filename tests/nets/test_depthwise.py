"""The depthwise convolution's own gradient against torch's in float64; on one thread as on many; without a compiler."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import conv2d

from facerep.nets.depthwise import depthwise, kernel, weight_gradient
from tests.support.micro import classifier, finetuning, run, splits_of, task_of

needs_compiler = pytest.mark.skipif(kernel(torch.float32) is None, reason="needs a C compiler with OpenMP")
shapes = {
    "batch": st.integers(1, 10),
    "channels": st.integers(1, 40),
    "height": st.integers(1, 9),
    "width": st.integers(1, 9),
}
EPSILON = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-9}  # half a unit in the last place


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers as `dtype` has them, channels_last."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return values.to(memory_format=torch.channels_last) if len(shape) == 4 else values


def by_torch(x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of weight and bias by torch's autograd, all in float64."""
    channels = x.shape[1]
    weight = torch.zeros(channels, 1, 7, 7, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(channels, dtype=torch.float64, requires_grad=True)
    conv2d(x.double(), weight, bias, padding=3, groups=channels).backward(gradient.double())
    assert weight.grad is not None
    assert bias.grad is not None
    return weight.grad, bias.grad


def bound(x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """How far a sum in fp32 may be off, whatever its order: (terms + 1) · epsilon · the sum of all sizes."""
    terms = x.shape[0] * x.shape[2] * x.shape[3] + 1
    weight, bias = by_torch(x.abs(), gradient.abs())
    return weight * terms * EPSILON[torch.float32], bias * terms * EPSILON[torch.float32]


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@example(batch=1, channels=1, height=1, width=1)
@example(batch=9, channels=16, height=1, width=8)
@example(batch=8, channels=17, height=8, width=1)
@example(batch=3, channels=40, height=16, width=16)
@given(**shapes)
def test_it_is_torchs_gradient_in_float64(
    dtype: torch.dtype, batch: int, channels: int, height: int, width: int
) -> None:
    """For pixels of both kinds: what is multiplied and summed is exact or fp32."""
    x = drawn(batch, channels, height, width, dtype=dtype)
    gradient = drawn(batch, channels, height, width, seed=1, dtype=dtype)
    for got, expected, off in zip(weight_gradient(x, gradient), by_torch(x, gradient), bound(x, gradient), strict=True):
        assert got.dtype == torch.float32
        assert got.shape == expected.shape
        assert ((got.double() - expected).abs() <= off).all()


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(**shapes)
def test_it_has_the_same_bits_on_any_number_of_threads(
    dtype: torch.dtype, batch: int, channels: int, height: int, width: int
) -> None:
    x = drawn(batch, channels, height, width, dtype=dtype)
    gradient = drawn(batch, channels, height, width, seed=1, dtype=dtype)
    results = []
    for threads in (1, 2, 3, 1):
        torch.set_num_threads(threads)
        results.append([t.numpy().tobytes() for t in weight_gradient(x, gradient)])
    assert results[0] == results[1] == results[2] == results[3]


@needs_compiler
def test_a_number_that_is_none_spoils_its_own_channel_only() -> None:
    x, gradient = drawn(2, 20, 5, 5), drawn(2, 20, 5, 5, seed=1)
    x[1, 17, 2, 2] = float("nan")
    weight, bias = weight_gradient(x, gradient)
    assert weight[17].isnan().any()
    assert weight.isnan().flatten(1).any(1).nonzero().flatten().tolist() == [17]
    assert not bias.isnan().any()


def both(
    x: Tensor, weight: Tensor, bias: Tensor, gradient: Tensor, convolve: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> tuple[Tensor, ...]:
    """The output, and the gradients of x, weight and bias."""
    inputs = [t.clone().requires_grad_() for t in (x, weight, bias)]
    out = convolve(*inputs)
    return out, *torch.autograd.grad(out, inputs, gradient)


@example(batch=1, channels=1, height=1, width=1)
@example(batch=2, channels=48, height=3, width=12)
@given(**shapes)
def test_it_is_conv2d_from_end_to_end(batch: int, channels: int, height: int, width: int) -> None:
    """Output and all three gradients, against conv2d in float64; whether the input lies in channels_last or not."""
    for layout in (torch.channels_last, torch.contiguous_format):
        x = drawn(batch, channels, height, width).contiguous(memory_format=layout)
        gradient = drawn(batch, channels, height, width, seed=1).contiguous(memory_format=layout)
        weight, bias = drawn(channels, 1, 7, 7, seed=2), drawn(channels, seed=3)
        got = both(x, weight, bias, gradient, depthwise)
        expected = both(
            x.double(),
            weight.double(),
            bias.double(),
            gradient.double(),
            lambda x, w, b: conv2d(x, w, b, padding=3, groups=channels),
        )
        for ours, theirs in zip(got, expected, strict=True):
            assert ours.dtype == torch.float32
            assert ours.shape == theirs.shape
            assert torch.allclose(ours.double(), theirs, rtol=1e-4, atol=1e-4)


@given(**shapes)
def test_in_bf16_it_is_near_conv2d_and_the_weights_gradients_stay_fp32(
    batch: int, channels: int, height: int, width: int
) -> None:
    x = drawn(batch, channels, height, width, dtype=torch.bfloat16)
    gradient = drawn(batch, channels, height, width, seed=1, dtype=torch.bfloat16)
    weight, bias = drawn(channels, 1, 7, 7, seed=2), drawn(channels, seed=3)
    got = both(x, weight, bias, gradient, depthwise)
    rounded = [t.to(torch.bfloat16).double() for t in (weight, bias)]
    expected = both(
        x.double(),
        *rounded,
        gradient.double(),
        lambda x, w, b: conv2d(x, w, b, padding=3, groups=channels),
    )
    assert [t.dtype for t in got] == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]
    for ours, theirs in zip(got, expected, strict=True):
        assert (ours.double() - theirs).norm() <= 0.01 * theirs.norm()


@needs_compiler
def test_only_what_is_asked_for_has_a_gradient() -> None:
    """The first block's input has none, nor have frozen weights."""
    x, weight, bias = drawn(2, 8, 5, 5), drawn(8, 1, 7, 7, seed=2), drawn(8, seed=3)
    depthwise(x, weight.requires_grad_(), bias.requires_grad_()).sum().backward()
    assert x.grad is None
    assert weight.grad is not None
    x, frozen = x.clone().requires_grad_(), weight.detach()
    depthwise(x, frozen, bias.detach()).sum().backward()
    assert x.grad is not None
    assert frozen.grad is None


@needs_compiler
def test_the_weights_gradient_lies_as_torchs_own() -> None:
    """DistributedDataParallel warns of any other strides, once a process, and copies what lies so more slowly."""
    x, gradient = drawn(2, 8, 5, 5), drawn(2, 8, 5, 5, seed=1)
    weight, bias = drawn(8, 1, 7, 7, seed=2), drawn(8, seed=3)
    ours = both(x, weight, bias, gradient, depthwise)[2]
    theirs = both(x, weight, bias, gradient, lambda x, w, b: conv2d(x, w, b, padding=3, groups=8))[2]
    assert ours.stride() == theirs.stride()


@pytest.mark.parametrize(("dtype", "side"), [(torch.float64, 7), (torch.float32, 5), (torch.float32, 3)])
def test_what_the_kernel_is_not_for_is_torchs_own(dtype: torch.dtype, side: int) -> None:
    """Another type of number, another size of kernel; the bits are torch's."""
    x, weight, bias = drawn(2, 6, 8, 8).to(dtype), drawn(6, 1, side, side, seed=2).to(dtype), drawn(6, seed=3).to(dtype)
    gradient = drawn(2, 6, 8, 8, seed=1).to(dtype)
    got = both(x, weight, bias, gradient, depthwise)
    expected = both(x, weight, bias, gradient, lambda x, w, b: conv2d(x, w, b, padding=side // 2, groups=6))
    for ours, theirs in zip(got, expected, strict=True):
        assert torch.equal(ours, theirs)


@needs_compiler
def test_float64_passes_gradcheck_as_the_fallback_does() -> None:
    x, weight, bias = (
        t.double().requires_grad_() for t in (drawn(1, 2, 3, 3), drawn(2, 1, 7, 7, seed=2), drawn(2, seed=3))
    )
    assert torch.autograd.gradcheck(depthwise, (x, weight, bias))


# Without a compiler


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The kernel is forgotten, and cannot be compiled again; afterwards it can."""
    monkeypatch.setenv("CC", "/nonexistent")
    kernel.cache_clear()
    yield
    kernel.cache_clear()


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_a_compiler_torchs_gradient_serves(dtype: torch.dtype) -> None:
    assert kernel(dtype) is None
    x, weight, bias = drawn(2, 6, 8, 8, dtype=dtype), drawn(6, 1, 7, 7, seed=2), drawn(6, seed=3)
    gradient = drawn(2, 6, 8, 8, seed=1, dtype=dtype)
    got = both(x, weight, bias, gradient, depthwise)
    expected = both(
        x,
        weight,
        bias,
        gradient,
        lambda x, w, b: conv2d(x, w.to(dtype), b.to(dtype), padding=3, groups=6),
    )
    for ours, theirs in zip(got, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_a_compiler_that_fails_is_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "false")
    kernel.cache_clear()
    try:
        assert kernel(torch.float32) is None
    finally:
        kernel.cache_clear()


def test_training_is_the_same_without_a_compiler_up_to_rounding(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_accelerate: Callable[[], None]
) -> None:
    splits, settings = splits_of(data_folder), finetuning(steps=4)
    with_kernel = run(classifier(), task_of(settings, splits), splits, tmp_path / "a", settings)
    fresh_accelerate()
    monkeypatch.setenv("CC", "/nonexistent")
    kernel.cache_clear()
    try:
        without = run(classifier(), task_of(settings, splits), splits, tmp_path / "b", settings)
        assert kernel(torch.float32) is None
    finally:
        kernel.cache_clear()
    for got, expected in zip(without.history, with_kernel.history, strict=True):
        assert got == pytest.approx(expected, rel=1e-4)


@needs_compiler
def test_a_compiler_with_arguments_serves_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """CC="ccache gcc" is what make and Python's own builds allow."""
    monkeypatch.setenv("CC", f"{os.environ.get('CC') or 'cc'} -pipe")
    kernel.cache_clear()
    try:
        assert kernel(torch.float32) is not None
    finally:
        kernel.cache_clear()
