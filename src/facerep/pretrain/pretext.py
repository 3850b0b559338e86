"""A pretext: its questions, asked of each photograph together, their losses weighed and added."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch
from torch import Tensor, nn

from facerep.core.errors import FacerepError
from facerep.faces.draws import Draws
from facerep.faces.pixels import Batch, FacePixels
from facerep.faces.transforms import normalize, to_float
from facerep.params import Pretrain as Settings
from facerep.pretexts import questions_of
from facerep.pretrain.question import SHARED, Picture, Question, Shown
from facerep.training.augment import augment

Truths = dict[str, Any]  # by the questions' names
Answers = Mapping[str, Any]


class Pretext:
    """One or more questions.

    Args:
        name: of facerep.pretexts; `original` has no question.
        settings: `pretrain` of params.yaml.

    Raises FacerepError for an unknown name.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        try:
            classes = [resolve_name(f"facerep.pretrain.{question}") for question in questions_of(name)]
        except ValueError as error:
            raise FacerepError(f"pretext = {name!r}: {error}.") from None
        self.name = name
        self.params = settings
        self.views = max((kind.views for kind in classes), default=1)
        self.questions: list[Question] = [kind(settings, self.views > 1) for kind in classes]
        several = len(classes) > 1
        self.weights = {q.name: getattr(settings, f"{q.name}_weight", 1.0) if several else 1.0 for q in self.questions}

    @property
    def trains(self) -> bool:
        """False for the baseline: there is nothing to train on."""
        return bool(self.questions)

    @property
    def needs_names(self) -> bool:
        """Whether the photographs' identities are given, and some photographs of each are held out."""
        return any(question.needs_names for question in self.questions)

    @property
    def passes(self) -> float:
        """How many photographs' worth of pixels go through the network for each photograph of an epoch; 0: none."""
        return self.views + sum(question.passes for question in self.questions) if self.trains else 0.0

    @property
    def settings(self) -> dict[str, Any]:
        """The fields of `pretrain` that mean something to this pretext's questions."""
        names = [name for question in self.questions for name in question.settings]
        if len(self.questions) > 1:
            names += [f"{q.name}_weight" for q in self.questions if f"{q.name}_weight" in Settings.model_fields]
        return {name: getattr(self.params, name) for name in names}

    @property
    def files(self) -> list[Path]:
        """The local files that the weights depend on, besides the photographs and the starting weights."""
        return [file for question in self.questions for file in question.files()]

    def look(self, photographs: FacePixels) -> None:
        """Show the questions the photographs that are to be trained on, before their heads are made."""
        for question in self.questions:
            question.look(photographs)

    def heads(self, widths: Sequence[int], identities: int = 0) -> nn.ModuleDict:
        """Fresh heads, by question, for a backbone whose stages have `widths` channels."""
        return nn.ModuleDict({q.name: q.head(widths, identities) for q in self.questions})

    def ask(self, batch: Batch, draws: Draws, train: bool, bf16: bool = False) -> tuple[Shown, Truths]:
        """A uint8 batch on the device, as the network is shown it, and the truth about it.

        Views are augmented in scoring, too; a single photograph is not. A view that is to be given its colors back keeps
        those that it has. With `bf16` a teacher computes in it.
        """
        images = to_float(batch.images)
        crops = self._crops(images, batch.samples, draws) if train or self.views > 1 else images
        shown = Shown(batch.samples, images, batch.labels, draws, train, crops, bf16, {SHARED: crops})
        return shown, {question.name: question.ask(shown) for question in self.questions}

    def _crops(self, images: Tensor, samples: Tensor, draws: Draws) -> Tensor:
        """The augmented views, all photographs in the first, then in the next."""
        keeps = any(question.keeps_colors for question in self.questions)
        views = [
            augment(images, samples, draws.view(n), self.params, recolor=not (keeps and n == 0))
            for n in range(self.views)
        ]
        return torch.cat(views) if len(views) > 1 else views[0]

    def losses(self, answers: Answers, truths: Truths, photographs: int) -> Tensor:
        """The weighed sum of the questions' losses, float32 B: the mean over each photograph's inputs."""
        total: Tensor | None = None
        for question in self.questions:
            losses = question.losses(answers[question.name], truths[question.name])
            losses = self.weights[question.name] * _by_photograph(losses, photographs)
            total = losses if total is None else total + losses
        assert total is not None, "a pretext that asks nothing cannot be trained"
        return total

    @torch.no_grad()
    def scores(self, answers: Answers, truths: Truths, photographs: int) -> dict[str, Tensor]:
        """How well each photograph is answered, float32 B each.

        Of several questions each has its loss beside, as `loss_<question>`; a measure that two of them have is named
        `<measure>_<question>`.
        """
        several = len(self.questions) > 1
        found: list[tuple[str, str, Tensor]] = []
        for question in self.questions:
            mine = question.scores(answers[question.name], truths[question.name])
            if several:
                mine |= {"loss": question.losses(answers[question.name], truths[question.name])}
            found += [(question.name, measure, _by_photograph(values, photographs)) for measure, values in mine.items()]
        measures = [measure for _, measure, _ in found]
        return {
            f"{measure}_{name}" if measures.count(measure) > 1 or measure == "loss" else measure: values
            for name, measure, values in found
        }

    def notes(self, scores: Mapping[str, float]) -> list[str]:
        """Sentences for the user about the mean scores on held-out photographs."""
        out = []
        for question in self.questions:
            own = {name.removesuffix(f"_{question.name}"): value for name, value in scores.items()}
            out += question.notes(own)
        return out

    def pictures(self, shown: Shown, answers: Answers, truths: Truths) -> list[Picture]:
        """What to show of a few photographs."""
        return [
            picture
            for question in self.questions
            for picture in question.pictures(shown, dict(answers), truths[question.name])
        ]


def network_inputs(shown: Shown) -> dict[str, Tensor]:
    """What is shown, as the network takes it: normalised."""
    return {name: normalize(images) for name, images in shown.inputs.items()}


def _by_photograph(values: Tensor, photographs: int) -> Tensor:
    """The mean over each photograph's inputs: N, all photographs in one view after the other, to B."""
    return values if len(values) == photographs else values.view(-1, photographs).mean(0)
