"""How often a photograph's nearest neighbours have its label, while something else is learned: a curve, never a choice."""

import numpy as np
from torch import nn

from facerep.faces.pixels import FacePixels
from facerep.training.inference import outputs
from facerep.training.probes import knn_answers


class NeighbourScore:
    """The accuracy on `val` of the votes of the nearest photographs of `train`, by the pooled features of a backbone.

    In fp32, and of the photographs as they are, as the stage probe has it. Nothing is learned or drawn, so training goes
    on as if nobody had looked.

    Args:
        backbone: the very module that is trained; normalised float32 B×3×H×H to an output with `pooler_output` B×D.
        train, val: labelled photographs.
    """

    def __init__(self, backbone: nn.Module, train: FacePixels, val: FacePixels) -> None:
        self.backbone = backbone
        self.train = train
        self.val = val

    def __call__(self) -> dict[str, float]:
        """`val/knn`, 0 … 1; the backbone is in eval mode."""
        answers = knn_answers(self._features(self.train), self.train.labels.numpy(), self._features(self.val))
        return {"val/knn": float(np.mean(answers == self.val.labels.numpy()))}

    def _features(self, pixels: FacePixels) -> np.ndarray:
        """Float32 N×D."""
        device = next(self.backbone.parameters()).device
        (features,) = outputs(lambda x: (self.backbone(x).pooler_output,), pixels, device, None)
        return features
