"""Where a head starts: the nearest class mean by plain loops, scikit-learn's probe, and what the network then answers."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import cross_entropy

from facerep.faces.pixels import FacePixels
from facerep.faces.transforms import normalize
from facerep.finetune.head import Labelled, class_means, head_of, start_head
from facerep.training.probes import PENALTIES
from tests.support.micro import Splits, classifier, splits_of


def blurred(number: int, noise: float, seed: int, classes: int = 5) -> Labelled:
    """Features around a centre for each class, of different scales, one of which never changes."""
    draw, centres = np.random.default_rng(seed), np.random.default_rng(0).normal(size=(classes, 8))
    labels = np.arange(number) % classes
    features = centres[labels] + noise * draw.normal(size=(number, 8))
    features[:, 0] = 1000 * features[:, 0] + 5000
    features[:, 1] = 7
    return Labelled(features.astype(np.float32), labels)


def plain_distances(train: Labelled, asked: np.ndarray) -> list[list[float]]:
    """Half of the squared distance of each row to each class mean, of features standardised by the train ones."""
    rows = [[float(v) for v in row] for row in train.features]
    number = len(rows)
    middle = [sum(column) / number for column in zip(*rows, strict=True)]
    spread = [
        math.sqrt(sum((v - m) ** 2 for v in column) / number)
        for column, m in zip(zip(*rows, strict=True), middle, strict=True)
    ]

    def standard(row: list[float]) -> list[float]:
        return [(v - m) / s if s else 0.0 for v, m, s in zip(row, middle, spread, strict=True)]

    means = []
    for label in sorted(set(train.labels.tolist())):
        own = [standard(row) for row, other in zip(rows, train.labels, strict=True) if other == label]
        means.append([sum(column) / len(own) for column in zip(*own, strict=True)])
    return [
        [sum((v - m) ** 2 for v, m in zip(standard([float(v) for v in row]), mean, strict=True)) / 2 for mean in means]
        for row in asked
    ]


def mean_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)))


@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_class_means_answer_with_the_nearest_and_are_as_sharp_as_val_wants(noise: float) -> None:
    train, val, test = (blurred(number, noise, seed) for number, seed in ((15, 1), (60, 2), (100, 3)))
    weight, bias = class_means(train, val)
    assert (weight.shape, bias.shape) == ((5, 8), (5,))
    distances = np.array(plain_distances(train, test.features))
    logits = test.features.astype(np.float64) @ weight.T + bias
    assert (logits.argmax(1) == distances.argmin(1)).all()
    own = -(distances - distances[:, :1])
    factor = (logits - logits[:, :1])[:, 1:] / own[:, 1:]
    assert factor.std() < 1e-3 * factor.mean(), "one factor for all"
    of_val = -np.array(plain_distances(train, val.features))
    tried = [mean_loss(factor.mean() * change * of_val, val.labels) for change in (0.8, 0.95, 1.0, 1.05, 1.25)]
    assert tried[2] == min(tried)


def test_class_means_of_one_photograph_each_are_the_photographs() -> None:
    train = blurred(5, 0.3, 1)
    weight, bias = class_means(train, blurred(40, 0.3, 2))
    assert ((train.features @ weight.T + bias).argmax(1) == train.labels).all()


@pytest.mark.parametrize("measure", ["accuracy", "balanced_accuracy"])
def test_a_linear_probes_head_says_what_scikit_learn_says(measure: str) -> None:
    train, val, test = (blurred(number, 1.0, seed) for number, seed in ((30, 1), (60, 2), (100, 3)))
    weight, bias = head_of("linear_probe", train, val, measure)
    models = [make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=200)).fit(*train) for c in PENALTIES]
    best = models[int(np.argmax([model.score(*val) for model in models]))]
    assert ((test.features.astype(np.float64) @ weight.T + bias).argmax(1) == best.predict(test.features)).all()
    assert 0.3 < best.score(*test) < 1


@pytest.fixture(scope="module")
def splits(data_folder: Path) -> Splits:
    return splits_of(data_folder)


def inputs(pixels: FacePixels) -> torch.Tensor:
    return normalize(pixels.__getitems__(range(len(pixels))).images / 255)


@pytest.mark.parametrize("kind", ["class_means", "linear_probe"])
def test_before_the_first_step_the_network_answers_as_its_frozen_features_do(kind: str, splits: Splits) -> None:
    """And its backbone is as it was."""
    model = classifier(seed=3)
    untouched = {name: value.clone() for name, value in model.base_model.state_dict().items()}
    start_head(model, splits, kind, "accuracy", torch.device("cpu"))
    assert all(torch.equal(value, untouched[name]) for name, value in model.base_model.state_dict().items())
    seen = {}
    with torch.no_grad():
        for role, pixels in splits.items():
            features = model.base_model.eval()(inputs(pixels)).pooler_output.numpy()
            seen[role] = Labelled(features, pixels.labels.numpy())
        said = model.eval()(inputs(splits["test"])).logits.argmax(1).numpy()
    if kind == "linear_probe":
        models = [
            make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=200)).fit(*seen["train"])
            for c in PENALTIES
        ]
        best = models[int(np.argmax([model.score(*seen["val"]) for model in models]))]
        expected = best.predict(seen["test"].features)
    else:
        expected = np.array(plain_distances(seen["train"], seen["test"].features)).argmin(1)
    assert said.tolist() == expected.tolist()
    assert len(set(said.tolist())) > 1
