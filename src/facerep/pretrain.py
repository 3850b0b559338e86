"""pretrain: starting weights, made better (or not) by a pretext on unlabelled faces."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor

from facerep.curves import report
from facerep.draws import Draws
from facerep.errors import FacerepError
from facerep.files import atomic_folder, is_main_process, write_json
from facerep.models import PretextModel, build_backbone, image_processor, save_pretext_model, starting_files
from facerep.params import Params
from facerep.params import Pretrain as Settings
from facerep.pixels import Batch, FacePixels
from facerep.pretexts import Answer, Pretext, Truth, pretext_named
from facerep.runtime import Runtime, arithmetic
from facerep.selection import read_selection, stable_order
from facerep.states import discard_finished, run_store
from facerep.tasks import photographs
from facerep.training import fit
from facerep.transforms import TURN


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
        """The pretext's loss, float32, one an input."""
        return self.pretext.losses(output, truth)

    def scores(self, output: Answer, truth: Truth) -> dict[str, Tensor]:
        """The pretext's scores, float32, one an input each."""
        return self.pretext.scores(output, truth)


def pretrain(params: Params, data: Path, out: Path, curves: Path, speed: Path) -> dict[str, Any]:
    """Train on the rows of role `pretrain`, write a transformers folder to `out`, return metrics/pretrain.json.

    With the pretext `original` the starting weights are written as they are. The pretext's own val and test are
    photographs of pretraining identities that are held out: neither fine-tuning nor the choice of an epoch meets them.
    Of many processes the first alone writes.

    Args:
        data: the folder with `faces/` and `selection.parquet`.
        curves: the folder for dvclive's curves.
        speed: the JSON file for how fast training was, which no two runs agree on.

    Raises FacerepError for what facerep.models.build_backbone and facerep.training.fit refuse.
    """
    profile, settings = params.active, params.active.pretrain
    pretext = pretext_named(params.pretext, settings)
    backbone = build_backbone(profile.model, params.seed, settings.drop_path)
    model = PretextModel(backbone, pretext.head(backbone.config.hidden_sizes[-1]))
    metrics: dict[str, Any] = {"pretext": pretext.name, "parameters": sum(p.numel() for p in backbone.parameters())}
    metrics |= {"variant": pretext.asked} if pretext.trains else {}
    with ExitStack() as stack:
        store, result, splits = None, None, {}
        if pretext.trains:
            selection = data / "selection.parquet"
            rows = hold_out(read_selection(selection, "pretrain"), settings, params.seed)
            size = profile.model.image_size
            splits = {s: FacePixels(data / "faces", part, size, settings.memory_mb) for s, part in rows.items()}
            store = run_store("pretrain", _settings(params), [selection, *starting_files(profile.model)])
            if is_main_process():
                stack.enter_context(store.held())
                discard_finished(but=store.name)
            task = PretextTask(pretext, settings)
            result = fit(model, task, splits, settings, Runtime.of(params), store, curves, "pretrain")
        if not is_main_process():
            return metrics
        metrics |= report(result, splits, curves, f"Pretraining: {pretext.name}")
        write_json(speed, result.speed if result is not None else {"images_per_s": None})
        with atomic_folder(out) as part:
            save_pretext_model(model, pretext, part)
            image_processor(profile.model.image_size).save_pretrained(part)
        if store is not None:
            store.finish()
    return metrics


def _settings(params: Params) -> dict[str, Any]:
    """What the weights depend on besides data and code, as plain data."""
    run = {"pretext": params.pretext, **arithmetic(Runtime.of(params))}
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
