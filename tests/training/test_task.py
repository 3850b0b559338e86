"""Views of photographs: each drawn for itself, whatever the batch that it is in."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from facerep.faces.draws import Draws
from facerep.faces.pixels import Batch
from facerep.faces.transforms import GREY, color_jitter, crop_and_flip, normalize
from facerep.pretrain.pretexts import pretext_named
from facerep.pretrain.stage import PretextTask
from facerep.training.task import photographs, views
from tests.support.micro import pretraining


def batch_of(samples: list[int], side: int = 8) -> Batch:
    """Noise that depends on the sample's number, so that it is known in any batch."""
    images = [
        torch.randint(256, (3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(sample))
        for sample in samples
    ]
    return Batch(torch.stack(images), torch.tensor(samples) % 7, torch.tensor(samples))


def slow_view(sample: int, draws: Draws, number: int, chosen: Any, side: int = 8) -> Tensor:
    """One view of one photograph, step by step: cropped and mirrored, jittered, and grey for one in five."""
    one, drawn = torch.tensor([sample]), draws.view(number)
    image = batch_of([sample], side).images / 255
    image = crop_and_flip(image, one, drawn, min_area=chosen.min_crop_area, flip=chosen.flip)
    image = color_jitter(image, one, drawn, chosen.color_jitter)[0]
    if float(drawn.uniform(one, GREY)) < 0.2:
        image = (0.2989 * image[0] + 0.587 * image[1] + 0.114 * image[2]).expand(3, -1, -1)
    return image


@settings(max_examples=25)
@given(
    samples=st.lists(st.integers(0, 500), min_size=1, max_size=6, unique=True),
    number=st.integers(1, 3),
    seed=st.integers(0, 50),
    epoch=st.integers(0, 5),
    jitter=st.sampled_from([0.0, 0.4]),
)
def test_views_come_one_after_the_other_each_as_if_its_photograph_were_alone(
    samples: list[int], number: int, seed: int, epoch: int, jitter: float
) -> None:
    chosen, draws = pretraining(color_jitter=jitter, min_crop_area=0.3), Draws(seed, epoch)
    got = views(batch_of(samples), draws, chosen, number)
    assert got.shape == (number * len(samples), 3, 8, 8)
    for view in range(number):
        for place, sample in enumerate(samples):
            expected = slow_view(sample, draws, view, chosen)
            assert torch.allclose(got[view * len(samples) + place], expected, atol=1e-6)
    assert torch.equal(got, views(batch_of(samples), Draws(seed, epoch), chosen, number)), "and the same every time"


def test_the_first_view_is_the_photograph_as_other_pretexts_crop_it() -> None:
    chosen, draws, samples = pretraining(color_jitter=0.4), Draws(1, 2), list(range(200))
    one = photographs(batch_of(samples), draws, chosen, train=True)
    first = views(batch_of(samples), draws, chosen, 2)[:200]
    same = (first == one).flatten(1).all(1)
    assert (~same == (draws.uniform(torch.tensor(samples), GREY) < 0.2)).all()
    assert same.sum() > 120


def test_views_differ_from_each_other_and_between_epochs_and_seeds() -> None:
    chosen, samples = pretraining(min_crop_area=0.3), list(range(30))
    seen = [views(batch_of(samples), Draws(*of), chosen, 2) for of in ((0, 0), (0, 1), (1, 0))]
    pixels = [image.numpy().tobytes() for images in seen for image in images]
    assert len(set(pixels)) == 3 * 2 * 30


def test_a_fifth_of_each_view_is_grey_and_one_views_greys_say_nothing_of_the_others() -> None:
    got = views(batch_of(list(range(4000)), 2), Draws(0, 0), pretraining(), 2)
    grey = (got[:, 0] == got[:, 1]).flatten(1).all(1).float().view(2, 4000)
    assert grey.mean(1).tolist() == pytest.approx([0.2, 0.2], abs=0.02)  # a standard deviation of 0.006
    assert torch.corrcoef(grey)[0, 1].abs() < 0.06


@pytest.mark.parametrize("train", [True, False])
def test_simclr_is_given_two_views_in_training_and_in_scoring(train: bool) -> None:
    chosen, draws = pretraining(), Draws(3, 0)
    task, batch = PretextTask(pretext_named("simclr", chosen), chosen), batch_of([4, 9, 2])
    inputs, _ = task.prepare(batch, draws, train)
    assert torch.equal(inputs, normalize(views(batch, draws, chosen, 2)))


def test_supervised_is_given_a_photograph_and_its_name_and_is_scored_on_the_whole_of_it() -> None:
    chosen, draws = pretraining(), Draws(3, 0)
    task, batch = PretextTask(pretext_named("supervised", chosen), chosen), batch_of([4, 9, 2])
    for train in (True, False):
        inputs, truth = task.prepare(batch, draws, train)
        assert torch.equal(truth.names, torch.tensor([4, 2, 2]))  # 4, 9 and 2 modulo 7
        assert torch.equal(inputs, normalize(photographs(batch, draws, chosen, train)))
    assert torch.equal(inputs, normalize(batch.images / 255))
