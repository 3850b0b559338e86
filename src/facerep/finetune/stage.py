"""finetune: the labelled task, learned from the pretrained weights."""

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention as Output

from facerep.core.dependencies import code_of
from facerep.core.errors import FacerepError
from facerep.core.files import atomic_folder, is_main_process, write_json
from facerep.faces.draws import Draws, send
from facerep.faces.measure import ACCURACY, BALANCED, measure_of
from facerep.faces.pixels import Batch, FacePixels
from facerep.faces.roles import few_labels, read_selection
from facerep.faces.transforms import normalize
from facerep.finetune.head import start_head
from facerep.finetune.mixup import MixedLabels, mix, mixed_accuracy, mixed_cross_entropy, partners, shares
from facerep.nets.convnext import freeze, image_processor, new_classifier, reset_last_stage
from facerep.params import Finetune as Settings
from facerep.params import Params
from facerep.resume.checkpoints import checkpoints_of
from facerep.resume.unfinished import discard_finished
from facerep.training.augment import photographs
from facerep.training.history import Fit, report
from facerep.training.loop import fit, refuse_empty
from facerep.training.meters import ByClass
from facerep.training.runtime import Runtime, accelerator_for, arithmetic


class IdentityTask:
    """Whose face is it? As the training loop sees it."""

    largest = True

    def __init__(self, settings: Settings, train: FacePixels, monitor: str = ACCURACY) -> None:
        self.settings = settings
        self.train = train  # where mixup finds a photograph's partner
        self.monitor = monitor

    def prepare(self, batch: Batch, draws: Draws, train: bool) -> tuple[Tensor, Tensor | MixedLabels]:
        """Crop, mirror and mix for training; the truth is the identity, int64 B."""
        images = photographs(batch, draws, self.settings, train)
        if not train or self.settings.mixup == 0:
            return normalize(images), batch.labels
        rows = partners(batch.samples, draws, len(self.train))
        other = self.train.__getitems__(rows.tolist())
        other = Batch(send(other.images, images.device), send(other.labels, images.device), rows)
        share = shares(batch.samples, draws, self.settings.mixup)
        images = mix(images, photographs(other, draws, self.settings, train), share)
        return normalize(images), MixedLabels(batch.labels, other.labels, share)

    def losses(self, output: Output, truth: Tensor | MixedLabels) -> Tensor:
        """Cross-entropy with label smoothing (Szegedy et al., CVPR 2016), float32 B."""
        logits, smoothing = output.logits.float(), self.settings.label_smoothing
        if isinstance(truth, MixedLabels):
            return mixed_cross_entropy(logits, truth, smoothing)
        return cross_entropy(logits, truth, reduction="none", label_smoothing=smoothing)

    def scores(self, output: Output, truth: Tensor | MixedLabels) -> dict[str, Tensor | ByClass]:
        """`accuracy` and `balanced_accuracy`: 0 or 1, float32 B; of mixed photographs the share that was answered.

        A mixed photograph counts for its own class.
        """
        if isinstance(truth, MixedLabels):
            right, own = mixed_accuracy(output.logits, truth), truth.own
        else:
            right, own = (output.logits.argmax(1) == truth).float(), truth
        return {ACCURACY: right, BALANCED: ByClass(right, own, output.logits.shape[1])}


def finetune(params: Params, data: Path, pretrained: Path, out: Path, curves: Path, speed: Path) -> dict[str, Any]:
    """Train on role `train`, score on `val` and `test`, write a transformers folder to `out`, return metrics/finetune.json.

    A head that is not drawn at random is scored before the first step, too: `start`. With `finetune.keep: best` that may
    be what is kept, so that val ends no lower; where it does, `notes` says so. Of many processes the first alone writes.

    Args:
        data: the folder with `faces/` and `selection.parquet`.
        pretrained: the transformers folder that `pretrain` wrote.
        curves: the folder for the curves of training.
        speed: the JSON file for how fast training was, which no two runs agree on.

    Raises FacerepError for what facerep.nets.convnext.new_classifier and facerep.training.loop.fit refuse.
    """
    settings = params.finetune
    selection = data / "selection.parquet"
    tables = {role: read_selection(selection, role) for role in ("train", "val", "test")}
    measure = measure_of(params.measure, [name for rows in tables.values() for name in rows["identity"].to_pylist()])
    if settings.labels_per_identity is not None:
        tables["train"] = _few(tables["train"], settings.labels_per_identity, settings.fewer_labels, params.seed)
    pairs = zip(tables["train"]["label"].to_pylist(), tables["train"]["identity"].to_pylist(), strict=True)
    names = [name for _, name in sorted(set(pairs))]
    splits = {
        role: FacePixels(data / "faces", rows, params.model.image_size, params.memory_mb)
        for role, rows in tables.items()
    }
    refuse_empty(splits)
    model = new_classifier(pretrained, names, params.seed, settings.drop_path)
    run = arithmetic(Runtime.of(params))
    run |= {"memory_mb": params.memory_mb, "model": params.model.model_dump(), "finetune": settings.model_dump()}
    run |= {"measure": measure}
    weights = sorted(p for p in pretrained.iterdir() if p.is_file())
    checkpoints = checkpoints_of("finetune", run, [selection, *weights], code_of("finetune"))
    with ExitStack() as stack:
        if is_main_process():
            stack.enter_context(checkpoints.held())
            discard_finished("pretrain", "finetune", but=checkpoints.name)
        if settings.reset_last_stage:
            reset_last_stage(model, params.seed)
        if settings.head != "random":
            start_head(model, splits, settings.head, measure, accelerator_for(Runtime.of(params)).device)
        freeze(model, settings.trainable)
        task = IdentityTask(settings, splits["train"], measure)
        result = fit(
            model,
            task,
            splits,
            settings,
            Runtime.of(params),
            checkpoints,
            curves,
            score_start=settings.head != "random",
        )
        metrics: dict[str, Any] = {"identities": len(names), "labels": len(tables["train"]) / len(names)}
        metrics["measure"] = measure
        if not is_main_process():
            return metrics
        metrics |= report(result, splits, curves)
        metrics |= start_of(result, settings.head, measure, metrics["val"][measure])
        write_json(speed, result.speed)
        with atomic_folder(out) as part:
            model.save_pretrained(part)
            image_processor(params.model.image_size).save_pretrained(part)
        checkpoints.finish()
    return metrics


def start_of(result: Fit, head: str, measure: str, end: float) -> dict[str, Any]:
    """`start`, val's scores before the first step where they are known, and `notes`, a sentence where it ends below.

    `end` is the measure of the weights that are kept, on val.
    """
    first = result.history[0]
    if first["epoch"] > 0:
        return {"notes": []}
    val = {key.removeprefix("val/"): value for key, value in first.items() if key.startswith("val/")}
    notes = []
    if end < val[measure]:
        what = {
            "linear_probe": "the linear probe of the same weights",
            "class_means": "the class means that it began from",
        }
        notes.append(
            f"Fine-tuning ends below {what[head]}: {measure.replace('_', ' ')} {end:.3f} on val, {val[measure]:.3f} before "
            "the first step; a lower finetune.learning_rate or layer_decay, or keep: best, keeps what was there."
        )
    return {"start": {"val": val}, "notes": notes}


def _few(rows: pa.Table, labels: int, fewer: bool, seed: int) -> pa.Table:
    identities = rows["identity"].to_pylist()
    least, name = min((n, name) for name, n in Counter(identities).items())
    if least < labels and not fewer:
        raise FacerepError(
            f"finetune.labels_per_identity = {labels}: identity {name!r} has only {least} photographs to train on; "
            "ask for fewer labels, raise select.min_labelled, or set finetune.fewer_labels."
        )
    return rows.take(pa.array(few_labels(rows["key"].to_pylist(), identities, labels, seed)))
