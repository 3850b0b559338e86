"""What a pretext's own head answers on faces that pretraining never saw: turns, reconstructions, views."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facerep.evaluate.pictures import spread
from facerep.faces.draws import Draws
from facerep.faces.pixels import Batch, FacePixels
from facerep.faces.transforms import TURN, denormalize, to_float
from facerep.figures import galleries
from facerep.params import Pretrain
from facerep.pretrain.model import PretextModel
from facerep.pretrain.pretext import Pretext
from facerep.pretrain.pretexts import nearest_view
from facerep.training.task import views


@torch.no_grad()
def draw_pretext(
    folder: Path,
    pretext: Pretext,
    model: PretextModel,
    pixels: FacePixels,
    settings: Pretrain,
    seed: int,
    device: torch.device,
) -> None:
    """What the pretext's own head answers on faces of identities that pretraining never saw."""
    if pretext.asks_names:
        return  # it knows none of these
    model = model.to(device)
    batch = pixels.__getitems__(spread(len(pixels), 8))
    batch = Batch(batch.images.to(device), batch.labels, batch.samples)
    draws = Draws(seed, 0, device)
    if pretext.views > 1:
        _draw_views(folder / "views.png", pretext, model, views(batch, draws, settings, pretext.views))
        return
    images = to_float(batch.images)
    turns = draws.integers(batch.samples, TURN, 4)
    inputs, truth = pretext.batch(images, turns)
    if len(inputs) > len(images):  # all turns of each: show one of them
        first = turns * len(images) + torch.arange(len(images), device=device)
        inputs, truth = inputs[first], type(truth)(*(None if part is None else part[first] for part in truth))
    answer = model(inputs)
    shown = _as_uint8(denormalize(inputs))
    if answer.pixels is not None:
        path = folder / "reconstructions.png"
        galleries.draw_reconstructions(shown, _as_uint8(pretext.upright(answer, truth)), _as_uint8(images), path)
    if answer.turn_logits is not None and truth.turns is not None:
        told = answer.turn_logits.argmax(1).cpu().numpy()
        galleries.draw_turns(shown, told, truth.turns.cpu().numpy(), folder / "turns.png")


def _draw_views(path: Path, pretext: Pretext, model: PretextModel, images: Tensor) -> None:
    """A view of each photograph, and of all other views the one that the network finds most like it."""
    number = len(images) // 2
    inputs, _ = pretext.batch(images, torch.zeros(0))
    projections = model(inputs).projections.float()
    found = nearest_view(projections)[:number].cpu()
    vectors = torch.nn.functional.normalize(projections, dim=1)
    scores = (vectors[:number] * vectors[found]).sum(1).tolist()
    shown = _as_uint8(images)
    galleries.draw_neighbours(
        shown[:number],
        shown[found.numpy()],
        [f"photograph {n + 1}" for n in range(number)],
        [f"photograph {int(n) % number + 1}" for n in found],
        scores,
        path,
        title="Views told to be of one photograph",
        what="left: a view; right: of all other views the one most like it",
    )


def _as_uint8(images: Tensor) -> np.ndarray:
    """Float [0, 1] B×3×H×H to uint8 B×H×H×3."""
    return (images * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
