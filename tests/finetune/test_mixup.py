"""Mixup: the distribution of the shares, partners that depend on the sample alone, and a loss as torch has it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch.nn.functional import cross_entropy, one_hot

from facerep.faces.draws import Draws
from facerep.finetune.mixup import MixedLabels, mix, mixed_accuracy, mixed_cross_entropy, partners, shares


@pytest.mark.parametrize("alpha", [0.4, 0.8, 1.0, 5.0, 100.0])  # below, float32 has too few numbers next to 1
def test_shares_are_drawn_from_the_beta_distribution(alpha: float) -> None:
    got = shares(torch.arange(5000), Draws(1, 2), alpha)
    assert got.dtype == torch.float32
    assert stats.kstest(got.double().numpy(), stats.beta(alpha, alpha).cdf).pvalue > 0.01
    assert stats.kstest(got.double().numpy(), stats.beta(1.3 * alpha, alpha).cdf).pvalue < 0.01  # and from no other


@pytest.mark.parametrize("alpha", [1e-300, 1e-6, 0.01, 0.4, 1.0, 100.0])
@pytest.mark.parametrize("draw", [0, 1, 2**23, 2**24 - 1])
def test_shares_stay_within_0_and_1_for_every_draw_and_both_ends_are_alike(alpha: float, draw: int) -> None:
    class Fixed(Draws):
        def uniform(self, samples: torch.Tensor, stream: int) -> torch.Tensor:
            return samples.float() * 2.0**-24

    low, high = shares(torch.tensor([draw, 2**24 - 1 - draw]), Fixed(0, 0), alpha)
    assert 0 <= low <= 1
    assert 0 <= high <= 1
    assert float(low + high) == pytest.approx(1, abs=1e-6)


@given(st.integers(1, 200), st.integers(0, 99))
def test_a_partner_is_another_row(rows: int, seed: int) -> None:
    samples = torch.arange(rows)
    got = partners(samples, Draws(seed, 0), rows)
    assert got.dtype == torch.int64
    assert ((got >= 0) & (got < rows)).all()
    assert (got == samples).any() == (rows == 1)


def test_small_alphas_leave_most_photographs_as_they_are() -> None:
    """The lower half alone, where float32 tells the shares apart."""
    got = shares(torch.arange(5000), Draws(1, 2), 0.1).double().numpy()
    low = got[got < 0.5]
    assert stats.binomtest(len(low), len(got)).pvalue > 0.01
    assert stats.kstest(low, lambda x: 2 * stats.beta(0.1, 0.1).cdf(x)).pvalue > 0.01


def test_every_other_row_is_a_partner_equally_often() -> None:
    found = torch.stack([partners(torch.tensor([3]), Draws(0, epoch), 6) for epoch in range(3000)]).flatten()
    counts = np.bincount(found.numpy(), minlength=6)
    assert counts[3] == 0
    assert stats.chisquare(np.delete(counts, 3)).pvalue > 0.01


def test_partners_and_shares_depend_on_seed_epoch_and_sample_alone() -> None:
    samples = torch.tensor([5, 900, 17, 3])
    for draw in (lambda s, d: partners(s, d, 1000), lambda s, d: shares(s, d, 0.8)):
        got = draw(samples, Draws(1, 1))
        assert torch.equal(draw(samples.flip(0), Draws(1, 1)), got.flip(0))
        assert torch.equal(torch.cat([draw(one, Draws(1, 1)) for one in samples.split(1)]), got)
        assert not torch.equal(draw(samples, Draws(1, 2)), got)
        assert not torch.equal(draw(samples, Draws(2, 1)), got)
    many = torch.arange(2000)  # who the partner is says nothing about the share
    pairs = partners(many, Draws(0, 0), 2000) - many, shares(many, Draws(0, 0), 1.0)
    assert abs(stats.spearmanr(pairs[0].remainder(2000), pairs[1]).statistic) < 0.06


def test_mix_is_the_papers_blend() -> None:
    generator = torch.Generator().manual_seed(0)
    images, others = torch.rand(2, 5, 3, 4, 4, generator=generator)
    share = torch.tensor([0.0, 0.25, 0.5, 0.9, 1.0])
    got = mix(images, others, share)
    for n, part in enumerate(share.tolist()):
        expected = part * images[n].double() + (1 - part) * others[n].double()
        assert torch.allclose(got[n].double(), expected, atol=1e-7)
    assert torch.equal(got[0], others[0])
    assert torch.equal(got[4], images[4])


@given(st.integers(0, 999), st.integers(2, 9), st.sampled_from([0.0, 0.1, 0.5]))
def test_the_loss_is_torchs_against_soft_labels(seed: int, classes: int, smoothing: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, classes, generator=generator) * 4
    own, others = torch.randint(0, classes, (2, 6), generator=generator)
    share = torch.rand(6, generator=generator)
    truth = MixedLabels(own, others, share)
    soft = share[:, None] * one_hot(own, classes) + (1 - share[:, None]) * one_hot(others, classes)
    got = mixed_cross_entropy(logits, truth, smoothing)
    expected = cross_entropy(logits, soft, reduction="none", label_smoothing=smoothing)
    assert got.shape == (6,)
    assert torch.allclose(got, expected, atol=1e-5)


def test_accuracy_counts_the_share_of_the_label_that_was_answered() -> None:
    logits = torch.eye(3)[[0, 1, 2, 1]]
    truth = MixedLabels(torch.tensor([0, 0, 0, 1]), torch.tensor([1, 1, 1, 1]), torch.tensor([0.7, 0.7, 0.7, 0.2]))
    assert torch.allclose(mixed_accuracy(logits, truth), torch.tensor([0.7, 0.3, 0.0, 1.0]))
