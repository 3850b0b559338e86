"""Names: torch's cross-entropy of a linear layer's logits, and no questions besides."""

import pytest
import torch

from facerep.nets.features import Features
from facerep.pretexts import PRETEXTS
from facerep.pretrain.names import Names
from facerep.pretrain.pretext import Pretext
from facerep.pretrain.question import SHARED
from tests.support.asked import asked, batch_of, slow_cross_entropy
from tests.support.micro import pretraining


def test_losses_and_scores_are_those_of_plain_logits() -> None:
    logits = torch.randn(7, 9, generator=torch.Generator().manual_seed(5)) * 3
    names = torch.tensor([0, 8, 3, 3, 1, 7, 2])
    logits[2, 3], logits[5, 7] = 20, 30  # two that are right for sure
    question = Names(pretraining())
    losses = question.losses(logits, names)
    assert losses.dtype == torch.float32
    assert losses.tolist() == pytest.approx(
        [slow_cross_entropy(row, int(name)) for row, name in zip(logits.double().numpy(), names, strict=True)], abs=1e-5
    )
    assert float(losses.mean()) == pytest.approx(float(torch.nn.CrossEntropyLoss()(logits, names)))
    scores = question.scores(logits, names)
    said = [row.index(max(row)) for row in logits.tolist()]
    assert set(scores) == {"accuracy"}
    assert scores["accuracy"].tolist() == [float(a == b) for a, b in zip(said, names.tolist(), strict=True)]
    assert 2 <= sum(scores["accuracy"].tolist()) < 7


def test_the_head_is_a_linear_layer_to_as_many_as_there_are() -> None:
    torch.manual_seed(0)
    head, pooled = Names(pretraining()).head([4, 4, 4, 12], 7), torch.randn(5, 12)
    weights = head.state_dict()
    assert {name: tuple(value.shape) for name, value in weights.items()} == {
        "layers.weight": (7, 12),
        "layers.bias": (7,),
    }
    said = head(Features((), pooled))
    assert torch.allclose(said, pooled @ weights["layers.weight"].T + weights["layers.bias"], atol=1e-6)


@pytest.mark.parametrize("name", ["supervised", "simclr+supervised"])
def test_every_view_of_a_photograph_has_its_name(name: str) -> None:
    _, shown, truths = asked(name, batch_of([4, 9, 2]))
    views = 2 if "simclr" in name else 1
    assert truths["names"].tolist() == [4, 2, 2] * views  # 4, 9 and 2 modulo 7
    assert len(shown.inputs[SHARED]) == 3 * views


def test_in_scoring_the_whole_photograph_is_shown_as_it_is() -> None:
    batch = batch_of([4, 9, 2])
    assert torch.equal(asked("supervised", batch)[1].inputs[SHARED], batch.images / 255)
    assert not torch.equal(asked("supervised", batch, train=True)[1].inputs[SHARED], batch.images / 255)


def test_no_other_pretext_sees_names() -> None:
    known = [name for name in PRETEXTS if name != "distillation"]
    assert [name for name in known if Pretext(name, pretraining()).needs_names] == ["supervised"]
