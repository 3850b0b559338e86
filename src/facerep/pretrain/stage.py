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
from facerep.faces.roles import read_pretraining, stable_order
from facerep.faces.shards import UNLABELLED
from facerep.nets.convnext import build_backbone, image_processor, starting_files
from facerep.params import Params
from facerep.params import Pretrain as Settings
from facerep.pretrain.model import PretextModel, save_pretext_model
from facerep.pretrain.pretext import Answers, Pretext, Truths, network_inputs
from facerep.resume.checkpoints import checkpoints_of
from facerep.resume.unfinished import discard_finished
from facerep.training.history import report
from facerep.training.loop import Watch, fit
from facerep.training.neighbours import NeighbourScore
from facerep.training.runtime import Runtime, arithmetic, in_bf16


class PretextTask:
    """A pretext as the training loop sees it. With `bf16` a teacher computes in it, as the run does."""

    monitor = "loss"
    largest = False

    def __init__(self, pretext: Pretext, *, bf16: bool = False) -> None:
        self.pretext = pretext
        self.bf16 = bf16

    def prepare(self, batch: Batch, draws: Draws, train: bool) -> tuple[dict[str, Tensor], tuple[int, Truths]]:
        """What the network is shown, by name, and how many photographs that are, with the truth about them."""
        shown, truths = self.pretext.ask(batch, draws, train, self.bf16)
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
    With `supervised`, which must know every identity, they are held-out photographs of the same identities; those without
    a name are left out. The seed is that of `pretrain`: the top one has no part.
    Of many processes the first alone writes.

    Args:
        data: the folder with `faces/` and `pretraining.parquet`.
        curves: the folder for the curves of training.
        speed: the JSON file for how fast training was, which no two runs agree on.

    Raises FacerepError for what facerep.nets.convnext.build_backbone, facerep.training.loop.fit and the questions' heads
    refuse.
    """
    settings = params.pretrain
    pretext = Pretext(params.pretext, settings)
    source = data / "pretraining.parquet"
    rows = _rows(pretext, source, settings) if pretext.trains else {}
    identities = max(rows["train"]["label"].to_pylist()) + 1 if pretext.needs_names else 0
    size = params.model.image_size
    splits = {split: FacePixels(data / "faces", part, size, params.memory_mb) for split, part in rows.items()}
    if pretext.trains:
        pretext.look(splits["train"])
    backbone = build_backbone(params.model, settings.seed, settings.drop_path)
    model = PretextModel(backbone, pretext, identities)
    metrics: dict[str, Any] = {"pretext": pretext.name, "parameters": sum(p.numel() for p in backbone.parameters())}
    metrics |= {"variant": pretext.settings} if pretext.trains else {}
    if pretext.needs_names:
        metrics["without_names"] = len(read_pretraining(source)) - sum(map(len, rows.values()))
    with ExitStack() as stack:
        checkpoints, result = None, None
        if pretext.trains:
            files = [source, *starting_files(params.model), *pretext.files]
            checkpoints = checkpoints_of("pretrain", _settings(params), files, code_of("pretrain"))
            if is_main_process():
                stack.enter_context(checkpoints.held())
                discard_finished("pretrain", "finetune", but=checkpoints.name)
            task = PretextTask(pretext, bf16=in_bf16(_runtime(params)))
            watch = _watch(model, params, data)
            result = fit(model, task, splits, settings, _runtime(params), checkpoints, curves, watch=watch)
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
    run = {"pretext": params.pretext, "memory_mb": params.memory_mb, **arithmetic(_runtime(params))}
    return run | {"model": params.model.model_dump(), "pretrain": params.pretrain.model_dump()}


def _runtime(params: Params) -> Runtime:
    """With the seed of pretraining."""
    return Runtime.of(params)._replace(seed=params.pretrain.seed)


def _watch(model: PretextModel, params: Params, data: Path) -> Watch | None:
    """How near neighbours share a name, every so many epochs, if that is asked for."""
    every = params.pretrain.score_knn_every
    if not every:
        return None
    tables = [read_pretraining(data / "pretraining.parquet", role) for role in ("train", "val")]
    train, val = (FacePixels(data / "faces", rows, params.model.image_size, params.memory_mb) for rows in tables)
    return Watch(every, NeighbourScore(model.backbone, train, val))


def _rows(pretext: Pretext, source: Path, settings: Settings) -> dict[str, pa.Table]:
    """The rows to train on, and the pretext's own val and test."""
    rows = read_pretraining(source)
    if not pretext.needs_names:
        return hold_out(rows, settings, settings.seed)
    return hold_out_photographs(name_identities(with_names(rows)), settings, settings.seed)


def with_names(rows: pa.Table) -> pa.Table:
    """The rows whose identity is a person or class, and not a photograph by itself.

    Raises FacerepError where there is none.
    """
    named = rows.filter(pc.not_equal(rows["split"], UNLABELLED))
    if not len(named):
        raise FacerepError(
            f"pretext = supervised: it learns names, and none of the {len(rows)} photographs to pretrain on has one; "
            "choose another pretext."
        )
    return named


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
