"""The moving average against a slow loop and torch's AveragedModel, and what it leaves alone."""

import copy
import io

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from facerep.training.averaging import WeightAverage
from tests.support.micro import bits


def network(seed: int = 0) -> nn.Sequential:
    """With buffers: the running mean and variance of the norm, and how many batches it has seen."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


def inputs(step: int) -> Tensor:
    return torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(step))


def train(model: nn.Module, average: WeightAverage, steps: range, reference: AveragedModel | None = None) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for step in steps:
        model(inputs(step)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(step)
        if reference is not None:
            reference.update_parameters(model)


def test_the_average_is_a_slow_loops() -> None:
    model = network()
    average = WeightAverage(model, 0.8)  # from step 35 on; before, (1 + step) / (10 + step)
    slow = {name: p.detach().double().numpy().copy() for name, p in model.named_parameters()}
    decays = [0.1, 2 / 11, 3 / 12, 4 / 13, 34 / 43, 35 / 44, 0.8, 0.8]
    for step, decay in zip([0, 1, 2, 3, 33, 34, 35, 500], decays, strict=True):
        train(model, average, range(step, step + 1))
        for name, p in model.named_parameters():
            slow[name] = decay * slow[name] + (1 - decay) * p.detach().double().numpy()
    with average.applied():
        for name, p in model.named_parameters():
            assert np.allclose(p.detach().numpy(), slow[name], rtol=0, atol=1e-6), name


def test_the_average_is_torchs_to_the_bit() -> None:
    """Far enough from the start of a run."""
    model = network()
    reference = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    reference.update_parameters(model)  # its first update copies
    average = WeightAverage(model, 0.9)
    train(model, average, range(100, 105), reference)
    with average.applied():
        for ours, theirs in zip(model.parameters(), reference.module.parameters(), strict=True):
            assert torch.equal(ours, theirs)


def test_the_model_scores_with_the_average_and_then_has_its_own_weights_again() -> None:
    model = network().eval()
    average = WeightAverage(model, 0.9)
    start = model(inputs(9)).detach()
    train(model.train(), average, range(4))
    own, scored = bits(model), model.eval()(inputs(9)).detach()
    with average.applied():
        averaged = model(inputs(9)).detach()
    assert not torch.equal(averaged, scored)
    assert not torch.equal(averaged, start)
    assert bits(model) == own
    with pytest.raises(KeyboardInterrupt), average.applied():
        raise KeyboardInterrupt
    assert bits(model) == own


def test_buffers_and_frozen_weights_are_the_models_own() -> None:
    model = network()
    model[0].requires_grad_(False)
    average = WeightAverage(model, 0.5)
    assert set(average.state_dict()) == {"1.weight", "1.bias", "3.weight", "3.bias"}
    train(model, average, range(3))
    own = bits(model)
    with average.applied():
        inside = bits(model)
    differ = {name for name in own if own[name] != inside[name]}
    assert differ == {"1.weight", "1.bias", "3.weight", "3.bias"}


def test_a_run_that_was_stopped_goes_on_to_the_bit() -> None:
    whole = network()
    average = WeightAverage(whole, 0.9)
    train(whole, average, range(3))
    file = io.BytesIO()
    torch.save({"model": whole.state_dict(), "average": average.state_dict()}, file)
    train(whole, average, range(3, 7))

    again = network(seed=1)
    resumed = WeightAverage(again, 0.9)
    file.seek(0)
    state = torch.load(file)
    again.load_state_dict(state["model"])
    resumed.load_state_dict(state["average"])
    train(again, resumed, range(3, 7))
    for one, other in zip(average.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    with average.applied(), resumed.applied():
        assert bits(whole) == bits(again)


def test_a_weight_that_is_missing_from_the_state_is_named() -> None:
    average = WeightAverage(network(), 0.9)
    state = average.state_dict()
    del state["3.weight"]
    with pytest.raises(KeyError, match=r"3\.weight"):
        average.load_state_dict(state)


def test_no_decay_is_no_average() -> None:
    model, plain = network(), network()
    average = WeightAverage(model, 0.0)
    train(model, average, range(3))
    train(plain, WeightAverage(copy.deepcopy(plain), 0.0), range(3))
    assert bits(model) == bits(plain)
    with average.applied():
        assert bits(model) == bits(plain)
    assert average.state_dict() == {}
    average.load_state_dict({})
