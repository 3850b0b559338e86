"""finetune: the labelled task, learned from the pretrained weights."""

from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention as Output

from facerep.draws import Draws
from facerep.files import atomic_folder
from facerep.models import freeze, image_processor, new_classifier
from facerep.params import Finetune as Settings
from facerep.params import Params
from facerep.pixels import Batch, FacePixels
from facerep.runtime import Runtime
from facerep.scratch import discard, held, run_folder
from facerep.selection import read_selection
from facerep.training import fit, photographs, report
from facerep.transforms import normalize


class IdentityTask:
    """Whose face is it? As the training loop sees it."""

    monitor = "accuracy"
    largest = True

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def prepare(self, batch: Batch, draws: Draws, train: bool) -> tuple[Tensor, Tensor]:
        """Crop and mirror for training; the truth is the identity, int64 B."""
        images = photographs(batch, draws, self.settings, train)
        return normalize(images), batch.labels

    def losses(self, output: Output, truth: Tensor) -> Tensor:
        """Cross-entropy with label smoothing (Szegedy et al., CVPR 2016), float32 B."""
        return cross_entropy(
            output.logits.float(), truth, reduction="none", label_smoothing=self.settings.label_smoothing
        )

    def scores(self, output: Output, truth: Tensor) -> dict[str, Tensor]:
        """`accuracy`: 0 or 1, float32 B."""
        return {"accuracy": (output.logits.argmax(1) == truth).float()}


def finetune(params: Params, data: Path, pretrained: Path, out: Path, curves: Path) -> dict[str, Any]:
    """Train on role `train`, choose the epoch on `val`, write a transformers folder to `out`, return metrics/finetune.json.

    Args:
        data: the folder with `faces/` and `selection.parquet`.
        pretrained: the transformers folder that `pretrain` wrote.
        curves: the folder for dvclive's curves.

    Raises FacerepError for what facerep.models.new_classifier and facerep.training.fit refuse.
    """
    profile, settings = params.active, params.active.finetune
    selection = data / "selection.parquet"
    tables = {role: read_selection(selection, role) for role in ("train", "val", "test")}
    pairs = zip(tables["train"]["label"].to_pylist(), tables["train"]["identity"].to_pylist(), strict=True)
    names = [name for _, name in sorted(set(pairs))]
    splits = {
        role: FacePixels(data / "faces", rows, profile.model.image_size, settings.memory_mb)
        for role, rows in tables.items()
    }
    model = new_classifier(pretrained, names, params.seed, profile.model.drop_path)
    freeze(model, settings.trainable)
    run = params.model_dump(include={"seed", "device", "precision", "threads"})
    run |= {"model": profile.model.model_dump(), "finetune": settings.model_dump()}
    scratch = run_folder("finetune", run, [selection, *sorted(p for p in pretrained.iterdir() if p.is_file())])
    with held(scratch):
        result = fit(model, IdentityTask(settings), splits, settings, Runtime.of(params), scratch, curves, "finetune")
        with atomic_folder(out) as part:
            model.save_pretrained(part)
            image_processor(profile.model.image_size).save_pretrained(part)
        discard(scratch)
    return {"identities": len(names), **report(result, splits, curves, "Fine-tuning")}
