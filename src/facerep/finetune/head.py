"""Where the head starts: at random, or as what the frozen features say before anything is trained.

So that the first steps do not pull features apart to suit a head that knows nothing: Kumar et al., "Fine-tuning can
distort pretrained features and underperform out-of-distribution", ICLR 2022.
"""

from typing import Any, NamedTuple

import numpy as np
import torch

from facerep.faces.pixels import FacePixels
from facerep.training.inference import outputs
from facerep.training.probes import fit_probe

SHARPEST = 1e4  # the largest factor of the class means' logits; the smallest is its inverse


class Labelled(NamedTuple):
    """Photographs as the frozen network sees them."""

    features: np.ndarray  # float32 N×D
    labels: np.ndarray  # int64 N


def start_head(model: Any, splits: dict[str, FacePixels], kind: str, measure: str, device: torch.device) -> None:
    """Give a classifier the head that its own frozen features make of the train photographs, as `head_of` says.

    The model is moved to `device`.
    """
    backbone = model.to(device).base_model.eval()
    seen = {}
    for role in ("train", "val"):
        name = f"features of {role}"
        (features,) = outputs(lambda x: (backbone(x).pooler_output,), splits[role], device, name)
        seen[role] = Labelled(features, splits[role].labels.numpy())
    weight, bias = head_of(kind, seen["train"], seen["val"], measure)
    with torch.no_grad():
        model.classifier.weight.copy_(torch.from_numpy(weight))
        model.classifier.bias.copy_(torch.from_numpy(bias))


def head_of(kind: str, train: Labelled, val: Labelled, measure: str) -> tuple[np.ndarray, np.ndarray]:
    """Weight (float64 C×D) and bias (float64 C) of a linear head.

    Args:
        kind: `class_means` or `linear_probe`.
        train: each class has a photograph; labels 0 … C-1.
        val: chooses the probe's penalty by `measure`, and how sharp the class means are.

    Raises FacerepError where a probe has fewer than two classes.
    """
    if kind == "linear_probe":
        return fit_probe(*train, *val, measure).folded()
    return class_means(train, val)


def class_means(train: Labelled, val: Labelled) -> tuple[np.ndarray, np.ndarray]:
    """The head that answers with the nearest class mean, on features standardised by the train photographs.

    Half of the squared distance to a mean is linear in the features but for what all classes share (Mensink et al.,
    "Distance-based image classification", TPAMI 2013; Snell et al., "Prototypical networks for few-shot learning",
    NeurIPS 2017, section 2.4). The logits are multiplied by what makes the cross-entropy on val least (Guo et al., "On
    calibration of modern neural networks", ICML 2017): train photographs lie nearer to their means than others do.
    """
    mean, scale = train.features.mean(0, dtype=np.float64), train.features.std(0, dtype=np.float64)
    scale = np.where(scale > 0, scale, 1)
    means = np.stack([train.features[train.labels == c].mean(0, dtype=np.float64) for c in np.unique(train.labels)])
    weight = (means - mean) / scale  # of standardised features
    bias = -0.5 * np.square(weight).sum(1)
    weight = weight / scale
    bias = bias - weight @ mean
    factor = _sharpness(val.features @ weight.T + bias, val.labels)
    return factor * weight, factor * bias


def _sharpness(logits: np.ndarray, labels: np.ndarray) -> float:
    """By what the logits (float64 N×C) are multiplied so that their cross-entropy is least; it has one minimum."""
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    own = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]

    def cross_entropy(logarithm: float) -> float:
        factor = np.exp(logarithm)
        return float((logsumexp(factor * logits, axis=1) - factor * own).mean())

    widest = np.log(SHARPEST)
    return float(np.exp(minimize_scalar(cross_entropy, bounds=(-widest, widest), method="bounded").x))
