"""pretrain: starting weights, made better (or not) by a pretext on unlabelled faces."""

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor

from facerep.core.dependencies import code_of
from facerep.core.errors import FacerepError
from facerep.core.files import atomic_folder, is_main_process, write_json
from facerep.faces.draws import Draws
from facerep.faces.pixels import Batch, FacePixels
from facerep.faces.roles import read_selection, stable_order
from facerep.nets.convnext import build_backbone, image_processor, starting_files
from facerep.params import Params
from facerep.params import Pretrain as Settings
from facerep.pretrain.model import PretextModel, save_pretext_model
from facerep.pretrain.pretext import Answers, Pretext, Truths, network_inputs
from facerep.resume.checkpoints import checkpoints_of
from facerep.resume.unfinished import discard_finished
from facerep.training.history import report
from facerep.training.loop import fit
from facerep.training.runtime import Runtime, arithmetic


class PretextTask:
    """A pretext as the training loop sees it."""

    monitor = "loss"
    largest = False

    def __init__(self, pretext: Pretext) -> None:
        self.pretext = pretext

    def prepare(self, batch: Batch, draws: Draws, train: bool) -> tuple[dict[str, Tensor], tuple[int, Truths]]:
        """What the network is shown, by name, and how many photographs that are, with the truth about them."""
        shown, truths = self.pretext.ask(batch, draws, train)
        return network_inputs(shown), (len(batch.samples), truths)

    def losses(self, output: Answers, truth: tuple[int, Truths]) -> Tensor:
        """The pretext's loss, float32, one a photograph."""
        photographs, truths = truth
        return self.pretext.losses(output, truths, photographs)

    def scores(self, output: Answers, truth: tuple[int, Truths]) -> dict[str, Tensor]:
        """The pretext's scores, float32, one a photograph each."""
        photographs, truths = truth
        return self.pretext.scores(output, truths, photographs)


def pretrain(params: Params, data: Path, out: Path, curves: Path, speed: Path) -> dict[str, Any]:
    """Train on the rows of role `pretrain`, write a transformers folder to `out`, return metrics/pretrain.json.

    With the pretext `original` the starting weights are written as they are. The pretext's own val and test are
    photographs of pretraining identities that are held out: neither fine-tuning nor the choice of an epoch meets them.
    With `supervised`, which must know every identity, they are held-out photographs of the same identities.
    Of many processes the first alone writes.

    Args:
        data: the folder with `faces/` and `selection.parquet`.
        curves: the folder for the curves of training.
        speed: the JSON file for how fast training was, which no two runs agree on.

    Raises FacerepError for what facerep.nets.convnext.build_backbone and facerep.training.loop.fit refuse.
    """
    settings = params.pretrain
    pretext = Pretext(params.pretext, settings)
    selection = data / "selection.parquet"
    rows = _rows(pretext, selection, settings, params.seed) if pretext.trains else {}
    identities = max(rows["train"]["label"].to_pylist()) + 1 if pretext.needs_names else 0
    backbone = build_backbone(params.model, params.seed, settings.drop_path)
    model = PretextModel(backbone, pretext, identities)
    metrics: dict[str, Any] = {"pretext": pretext.name, "parameters": sum(p.numel() for p in backbone.parameters())}
    metrics |= {"variant": pretext.settings} if pretext.trains else {}
    with ExitStack() as stack:
        checkpoints, result, splits = None, None, {}
        if pretext.trains:
            size = params.model.image_size
            splits = {s: FacePixels(data / "faces", part, size, params.memory_mb) for s, part in rows.items()}
            files = [selection, *starting_files(params.model)]
            checkpoints = checkpoints_of("pretrain", _settings(params), files, code_of("pretrain"))
            if is_main_process():
                stack.enter_context(checkpoints.held())
                discard_finished("pretrain", "finetune", but=checkpoints.name)
            task = PretextTask(pretext)
            result = fit(model, task, splits, settings, Runtime.of(params), checkpoints, curves)
        if not is_main_process():
            return metrics
        metrics |= report(result, splits, curves)
        metrics["notes"] = pretext.notes(metrics["test"]) if pretext.trains else []
        write_json(speed, result.speed if result is not None else {"images_per_s": None})
        with atomic_folder(out) as part:
            save_pretext_model(model, pretext, part)
            image_processor(params.model.image_size).save_pretrained(part)
        if checkpoints is not None:
            checkpoints.finish()
    return metrics


def _settings(params: Params) -> dict[str, Any]:
    """What the weights depend on besides data and code, as plain data."""
    run = {"pretext": params.pretext, "memory_mb": params.memory_mb, **arithmetic(Runtime.of(params))}
    return run | {"model": params.model.model_dump(), "pretrain": params.pretrain.model_dump()}


def _rows(pretext: Pretext, selection: Path, settings: Settings, seed: int) -> dict[str, pa.Table]:
    """The rows to train on, and the pretext's own val and test."""
    rows = read_selection(selection, "pretrain")
    if not pretext.needs_names:
        return hold_out(rows, settings, seed)
    return hold_out_photographs(name_identities(rows), settings, seed)


def name_identities(rows: pa.Table) -> pa.Table:
    """The rows with the identities numbered through, by name, in the place of `label`."""
    names = rows["identity"].to_pylist()
    number = {name: n for n, name in enumerate(sorted(set(names)))}
    column = rows.schema.get_field_index("label")
    return rows.set_column(column, "label", pa.array([number[name] for name in names], pa.int32()))


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


def hold_out_photographs(rows: pa.Table, settings: Settings, seed: int) -> dict[str, pa.Table]:
    """Split the rows by photograph into train, val and test, by a stable hash of seed and key; each identity keeps one.

    Raises FacerepError when too few identities have two photographs.
    """
    left = Counter(rows["identity"].to_pylist())
    identities = rows["identity"].to_pylist()
    wanted = {s: max(1, round(len(rows) * getattr(settings, f"{s}_fraction"))) for s in ("val", "test")}
    taken: dict[str, list[int]] = {"val": [], "test": [], "train": []}
    for row in stable_order(np.array(rows["key"].to_pylist(), dtype=object), seed).tolist():
        split = next((s for s in wanted if len(taken[s]) < wanted[s] and left[identities[row]] > 1), "train")
        left[identities[row]] -= split != "train"
        taken[split].append(row)
    if any(len(taken[split]) < n for split, n in wanted.items()):
        raise FacerepError(
            f"pretext = supervised: of {len(rows)} photographs to pretrain on too few stand beside another one of their "
            "identity, so that none can be held out; lower pretrain.val_fraction and test_fraction, or choose another."
        )
    return {split: rows.take(pa.array(sorted(taken[split]), pa.int64())) for split in ("train", "val", "test")}
