"""pretrain: starting weights, made better (or not) by a pretext on unlabelled faces."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors.torch import load_file, save_file
from torch import Tensor

from facerep.draws import Draws
from facerep.files import atomic_folder
from facerep.models import PretextModel, build_backbone, image_processor, load_backbone
from facerep.params import Params
from facerep.params import Pretrain as Settings
from facerep.pixels import Batch, FacePixels
from facerep.pretexts import Answer, Pretext, Truth, pretext_named
from facerep.runtime import Runtime
from facerep.scratch import discard, run_folder
from facerep.selection import read_selection, stable_order
from facerep.training import fit, report
from facerep.transforms import TURN, crop_and_flip, to_float

HEAD = "pretext_head.safetensors"  # beside the backbone; transformers does not look at it


class PretextTask:
    """A pretext as the training loop sees it."""

    monitor = "loss"
    largest = False

    def __init__(self, pretext: Pretext, settings: Settings) -> None:
        self.pretext = pretext
        self.settings = settings

    def prepare(self, batch: Batch, draws: Draws, train: bool) -> tuple[Tensor, Truth]:
        """Crop and mirror for training; then turn, grey and truth, all on the batch's device."""
        images = to_float(batch.images)
        if train:
            images = crop_and_flip(
                images, batch.samples, draws, min_area=self.settings.min_crop_area, flip=self.settings.flip
            )
        return self.pretext.batch(images, draws.integers(batch.samples, TURN, 4))

    def losses(self, output: Answer, truth: Truth) -> Tensor:
        """The pretext's loss, float32 B."""
        return self.pretext.losses(output, truth, self.settings.reconstruction_weight)

    def scores(self, output: Answer, truth: Truth) -> dict[str, Tensor]:
        """The pretext's scores, float32 B each."""
        return self.pretext.scores(output, truth)


def pretrain(params: Params, data: Path, out: Path, curves: Path) -> dict[str, Any]:
    """Train on the rows of role `pretrain`, write a transformers folder to `out`, return metrics/pretrain.json.

    With the pretext `original` the starting weights are written as they are. The pretext's own val and test are
    photographs of pretraining identities that are held out: neither fine-tuning nor the choice of an epoch meets them.

    Args:
        data: the folder with `faces/` and `selection.parquet`.
        curves: the folder for dvclive's curves.

    Raises FacerepError for what facerep.models.build_backbone and facerep.training.fit refuse.
    """
    profile, settings = params.active, params.active.pretrain
    pretext = pretext_named(params.pretext)
    backbone = build_backbone(profile.model, params.seed)
    model = PretextModel(backbone, pretext.head(backbone.config.hidden_sizes[-1]))
    metrics: dict[str, Any] = {
        "pretext": pretext.name,
        "parameters": sum(p.numel() for p in backbone.parameters()),
    }
    scratch, result, splits = None, None, {}
    if pretext.trains:
        selection = data / "selection.parquet"
        rows = hold_out(read_selection(selection, "pretrain"), settings, params.seed)
        splits = {
            split: FacePixels(data / "faces", part, profile.model.image_size, settings.memory_mb)
            for split, part in rows.items()
        }
        run = params.model_dump(include={"pretext", "seed", "device", "precision", "threads"})
        run |= {"model": profile.model.model_dump(), "pretrain": settings.model_dump()}
        scratch = run_folder("pretrain", run, [selection])
        result = fit(
            model, PretextTask(pretext, settings), splits, settings, Runtime.of(params), scratch, curves, "pretrain"
        )
    metrics |= report(result, splits, curves, f"Pretraining: {pretext.name}")
    with atomic_folder(out) as part:
        model.backbone.save_pretrained(part)
        image_processor(profile.model.image_size).save_pretrained(part)
        if pretext.trains:
            save_file({name: t.contiguous() for name, t in model.head.state_dict().items()}, part / HEAD)
    if scratch is not None:
        discard(scratch)
    return metrics


def hold_out(rows: pa.Table, settings: Settings, seed: int) -> dict[str, pa.Table]:
    """Split the pretraining rows by identity into train, val and test; at least one identity each where there are three."""
    names = np.array(sorted(set(rows["identity"].to_pylist())), dtype=object)
    shuffled = [str(name) for name in names[stable_order(names, seed)]]
    n_val = max(1, round(len(shuffled) * settings.val_fraction))
    n_test = max(1, round(len(shuffled) * settings.test_fraction))
    parts = {"val": shuffled[:n_val], "test": shuffled[n_val : n_val + n_test], "train": shuffled[n_val + n_test :]}
    identity = rows["identity"]
    return {
        split: rows.filter(pa.compute.is_in(identity, pa.array(parts[split], pa.string())))
        for split in ("train", "val", "test")
    }


def load_pretext_model(folder: Path, pretext: Pretext) -> PretextModel:
    """The pretrained backbone with its pretext's head, as pretraining left them."""
    backbone = load_backbone(folder)
    model = PretextModel(backbone, pretext.head(backbone.config.hidden_sizes[-1]))
    if pretext.trains:
        model.head.load_state_dict(load_file(folder / HEAD))
    return model.eval()
