"""Augmentation by the keys that both trainings have: its steps in their order, each photograph drawn for itself."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from facerep.faces.draws import Draws
from facerep.faces.transforms import color_jitter, crop_and_flip, random_erasing, random_grayscale
from facerep.params import Training
from facerep.training.augment import augment, photographs
from tests.support.asked import batch_of
from tests.support.micro import finetuning, pretraining

STRONG: dict[str, Any] = {"min_crop_area": 0.3, "color_jitter": 0.4, "hue": 0.1, "degrees": 20.0}
STRONG |= {"random_grayscale": 0.4, "random_erasing": 0.6}


def step_by_step(sample: int, draws: Draws, chosen: Training, recolor: bool, **more: Any) -> Tensor:
    one, image = torch.tensor([sample]), batch_of([sample]).images / 255
    image = crop_and_flip(
        image, one, draws, min_area=chosen.min_crop_area, degrees=chosen.degrees, flip=chosen.flip, **more
    )
    if recolor:
        image = color_jitter(image, one, draws, chosen.color_jitter, chosen.hue)
        image = random_grayscale(image, one, draws, chosen.random_grayscale)
    return random_erasing(image, one, draws, chosen.random_erasing)[0]


@settings(max_examples=25)
@given(
    samples=st.lists(st.integers(0, 500), min_size=1, max_size=6, unique=True),
    seed=st.integers(0, 50),
    recolor=st.booleans(),
    more=st.sampled_from([{}, {"max_area": 0.5}, {"side": 4}, {"max_area": 0.4, "side": 6}]),
)
def test_each_photograph_is_augmented_as_if_it_were_alone(
    samples: list[int], seed: int, recolor: bool, more: dict[str, Any]
) -> None:
    chosen, draws, batch = pretraining(**STRONG), Draws(seed, 1), batch_of(samples)
    got = augment(batch.images / 255, batch.samples, draws, chosen, recolor=recolor, **more)
    assert got.shape == (len(samples), 3, *2 * [more.get("side", 8)])
    for place, sample in enumerate(samples):
        assert torch.allclose(got[place], step_by_step(sample, draws, chosen, recolor, **more), atol=1e-5)
    assert got.min() >= 0 and got.max() <= 1


@pytest.mark.parametrize("key", STRONG)
def test_each_key_changes_something_by_itself(key: str) -> None:
    off = {"min_crop_area": 1.0, "flip": False}
    batch = batch_of(list(range(20)))
    images = batch.images / 255
    plain = augment(images, batch.samples, Draws(0, 0), finetuning(**off))
    assert torch.allclose(plain, images, atol=1e-4)
    changed = augment(images, batch.samples, Draws(0, 0), finetuning(**off | {key: STRONG[key]}))
    assert ((changed - images).abs() > 0.02).flatten(1).any(1).sum() > 4


@pytest.mark.parametrize("chosen", [pretraining(**STRONG), finetuning(**STRONG)])
def test_photographs_are_augmented_for_training_alone(chosen: Training) -> None:
    batch, draws = batch_of([4, 9, 2]), Draws(3, 0)
    assert torch.equal(photographs(batch, draws, chosen, train=False), batch.images / 255)
    expected = augment(batch.images / 255, batch.samples, draws, chosen)
    assert torch.equal(photographs(batch, draws, chosen, train=True), expected)
