"""What a pretext's own heads answer on faces that pretraining never saw: turns, reconstructions, views."""

from pathlib import Path

import torch

from facerep.evaluate.pictures import spread
from facerep.faces.draws import Draws
from facerep.faces.pixels import Batch, FacePixels
from facerep.figures import galleries
from facerep.pretrain.model import PretextModel
from facerep.pretrain.pretext import Pretext, network_inputs

NUMBER = 8  # of photographs that are shown


@torch.no_grad()
def draw_pretext(
    folder: Path, pretext: Pretext, model: PretextModel, pixels: FacePixels, seed: int, device: torch.device
) -> None:
    """What each question of the pretext shows of a few faces of identities that pretraining never saw."""
    if pretext.needs_names:
        return  # it knows none of these
    batch = pixels.__getitems__(spread(len(pixels), NUMBER))
    batch = Batch(batch.images.to(device), batch.labels.to(device), batch.samples)
    shown, truths = pretext.ask(batch, Draws(seed, 0, device), train=False)
    answers = model.to(device)(network_inputs(shown))
    for picture in pretext.pictures(shown, answers, truths):
        getattr(galleries, picture.gallery)(**picture.values, path=folder / picture.file)
