"""Teacher: give the features that a trained network has of the photograph. Knowledge distillation, without a name or label.

Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network", 2015, of logits; Romero et al., "FitNets: hints for
thin deep nets", ICLR 2015, of features. Both networks see the same crop, as Beyer et al., "Knowledge distillation: a good
teacher is patient and consistent", CVPR 2022, found it must be; a linear layer brings the student's features to the
teacher's width, as in LightlyTrain.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, layer_norm, mse_loss

from facerep.nets.loading import files_in, folder_named
from facerep.params import Pretrain as Settings
from facerep.pretrain.question import Pooled, Question, Shown
from facerep.pretrain.teacher_network import TeacherNetwork, load_teacher


class Lesson:
    """What a teacher has to say about some crops. It looks at them when it is first asked: to draw pictures nobody asks.

    Args:
        question: whose teacher it is.
        crops: float32 N×3×H×H in [0, 1].
        bf16: whether the teacher computes in it, under autocast.
    """

    def __init__(self, question: "Teacher", crops: Tensor, bf16: bool) -> None:
        self.question, self.crops, self.bf16 = question, crops, bf16

    @cached_property
    def features(self) -> Tensor:
        """Float32 N×width, without a gradient. The teacher goes to the crops' device, and stays there."""
        device = self.crops.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            features: Tensor = self.question.network.to(device)(self.crops)
        return layer_norm(features, features.shape[1:]) if self.question.params.teacher_loss == "mse" else features

    def of(self, inputs: int) -> Tensor:
        """The features for each of the network's inputs: a photograph may be shown in several turns."""
        return (
            self.features if inputs == len(self.crops) else self.features.repeat(inputs // max(1, len(self.crops)), 1)
        )


class Teacher(Question):
    """The answer is float32 N×width; the truth a Lesson on the crops as they were before any question turned or greyed them.

    With `teacher_loss: mse` each photograph's features are brought to mean 0 and variance 1 first, a layer norm without
    weights: Wei et al., "Contrastive learning rivals masked image modeling in fine-tuning via feature distillation", 2022.
    Teachers differ in scale by orders of magnitude, and so would the loss.
    """

    name = "teacher"
    settings = ("teacher", "teacher_loss")

    def __init__(self, settings: Settings, beside_views: bool = False) -> None:
        super().__init__(settings, beside_views)
        self.width: int | None = None  # of the features; None: the teacher says it

    @cached_property
    def network(self) -> TeacherNetwork:
        """The teacher, no part of what is trained or saved; loaded when it is first needed."""
        assert self.params.teacher is not None, "the parameters are checked for it"
        return load_teacher(self.params.teacher)

    def files(self) -> list[Path]:
        """Those of a local teacher."""
        return files_in(folder_named(self.params.teacher)) if self.params.teacher is not None else []

    def recall(self, weights: Mapping[str, Tensor]) -> None:
        """Take the teacher's width from the saved head: the teacher need not be there any more."""
        self.width = len(weights["teacher.layers.bias"])

    def head(self, widths: Sequence[int], identities: int) -> nn.Module:
        """A linear layer on the pooled features, to the teacher's width.

        Raises FacerepError for what facerep.pretrain.teacher_network.load_teacher refuses.
        """
        return Pooled(nn.Linear(widths[-1], self.width or self.network.width))

    def ask(self, shown: Shown) -> Lesson:
        """The crops, for the teacher to look at."""
        return Lesson(self, shown.crops, shown.bf16)

    def losses(self, answer: Tensor, truth: Lesson) -> Tensor:
        """1 - cosine, as Ranzinger et al., "AM-RADIO", CVPR 2024, have it for pooled features; or the mean squared error."""
        answer, features = answer.float(), truth.of(len(answer))
        if self.params.teacher_loss == "cosine":
            return 1 - cosine_similarity(answer, features)
        return mse_loss(answer, features, reduction="none").mean(1)

    @torch.no_grad()
    def scores(self, answer: Tensor, truth: Lesson) -> dict[str, Tensor]:
        """`cosine` of the answer and the features that it is to give, -1 … 1."""
        return {"cosine": cosine_similarity(answer.float(), truth.of(len(answer)))}
