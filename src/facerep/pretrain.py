"""pretrain: starting weights, made better (or not) by a pretext on unlabelled faces."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from safetensors.torch import load_file, save_file
from torch import Tensor

from facerep.draws import Draws
from facerep.errors import FacerepError
from facerep.files import atomic_folder
from facerep.models import PretextModel, build_backbone, image_processor, load_backbone, starting_files
from facerep.params import Params
from facerep.params import Pretrain as Settings
from facerep.pixels import Batch, FacePixels
from facerep.pretexts import Answer, Pretext, Truth, pretext_named
from facerep.runtime import Runtime
from facerep.scratch import discard, held, run_folder
from facerep.selection import read_selection, stable_order
from facerep.training import fit, photographs, report
from facerep.transforms import TURN

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
        images = photographs(batch, draws, self.settings, train)
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
    with ExitStack() as stack:
        scratch, result, splits = None, None, {}
        if pretext.trains:
            selection = data / "selection.parquet"
            rows = hold_out(read_selection(selection, "pretrain"), settings, params.seed)
            size = profile.model.image_size
            splits = {s: FacePixels(data / "faces", part, size, settings.memory_mb) for s, part in rows.items()}
            scratch = run_folder("pretrain", _settings(params), [selection, *starting_files(profile.model)])
            stack.enter_context(held(scratch))
            task = PretextTask(pretext, settings)
            result = fit(model, task, splits, settings, Runtime.of(params), scratch, curves, "pretrain")
        metrics |= report(result, splits, curves, f"Pretraining: {pretext.name}")
        with atomic_folder(out) as part:
            model.backbone.save_pretrained(part)
            image_processor(profile.model.image_size).save_pretrained(part)
            if pretext.trains:
                save_file({name: t.contiguous() for name, t in model.head.state_dict().items()}, part / HEAD)
        if scratch is not None:
            discard(scratch)
    return metrics


def _settings(params: Params) -> dict[str, Any]:
    """The parameters that the weights depend on, as plain data."""
    run = params.model_dump(include={"pretext", "seed", "device", "precision", "threads"})
    return run | {"model": params.active.model.model_dump(), "pretrain": params.active.pretrain.model_dump()}


def hold_out(rows: pa.Table, settings: Settings, seed: int) -> dict[str, pa.Table]:
    """Split the pretraining rows by identity into train, val and test, by a stable hash of seed and name.

    Raises FacerepError when there are fewer than three identities, or none is left to train on.
    """
    names = np.array(sorted(set(rows["identity"].to_pylist())), dtype=object)
    shuffled = [str(name) for name in names[stable_order(names, seed)]]
    n_val = max(1, round(len(shuffled) * settings.val_fraction))
    n_test = max(1, round(len(shuffled) * settings.test_fraction))
    if n_val + n_test >= len(shuffled):
        raise FacerepError(
            f"{len(shuffled)} identities to pretrain on: too few to hold out pretrain.val_fraction = "
            f"{settings.val_fraction:g} and test_fraction = {settings.test_fraction:g} of them; lower these, or look at "
            "metrics/select.json for where the others went."
        )
    parts = {"val": shuffled[:n_val], "test": shuffled[n_val : n_val + n_test], "train": shuffled[n_val + n_test :]}
    identity = rows["identity"]
    return {
        split: rows.filter(pc.is_in(identity, pa.array(parts[split], pa.string())))
        for split in ("train", "val", "test")
    }


def load_pretext_model(folder: Path, pretext: Pretext) -> PretextModel:
    """The pretrained backbone with its pretext's head, as pretraining left them."""
    backbone = load_backbone(folder)
    model = PretextModel(backbone, pretext.head(backbone.config.hidden_sizes[-1]))
    if pretext.trains:
        model.head.load_state_dict(load_file(folder / HEAD))
    return model.eval()
