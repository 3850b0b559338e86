"""evaluate: how good the fine-tuned model is, and how good the pretrained features are by themselves. In fp32."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from facerep.core.files import atomic, atomic_folder
from facerep.core.progress import progress_bar
from facerep.evaluate.pictures import draw_models, draw_pretext
from facerep.evaluate.scores import Split, batches, score
from facerep.faces.pixels import FacePixels
from facerep.faces.roles import read_selection
from facerep.faces.transforms import normalize, to_float
from facerep.nets.convnext import load_backbone, load_classifier
from facerep.params import Params
from facerep.pretrain.model import load_pretext_model
from facerep.resume.unfinished import discard_finished
from facerep.training.runtime import Runtime, accelerator_for


def evaluate(params: Params, data: Path, pretrained: Path, finetuned: Path, metrics: Path) -> dict[str, Any]:
    """Score both models, draw `metrics`/evaluate/, return metrics/evaluate.json.

    `test`: the fine-tuned model on role test. `probe`, `knn`, `verification`: features of the frozen *pretrained*
    backbone, of identities that pretraining never saw; the probes learn from role train and choose on val. Of
    `probe_labels` those are left out that some identity has not so many training photographs for.

    `metrics`/answers.json holds lists alone, which `dvc metrics` leaves out: which test photograph was answered rightly by
    what, and AUC and EER over resamples of them. A study compares variants by these.

    Args:
        data: the folder with `faces/` and `selection.parquet`.
        pretrained, finetuned: the transformers folders.
        metrics: the folder above `evaluate/`.

    Raises FacerepError when a model or the data are not there, or there are too few photographs to make a pair.
    """
    discard_finished("pretrain", "finetune")
    profile = params.active
    device = accelerator_for(Runtime.of(params)).device
    backbone = load_backbone(pretrained).to(device).eval()
    classifier = load_classifier(finetuned).to(device).eval()
    size = classifier.config.image_size
    names = [classifier.config.id2label[n] for n in range(classifier.config.num_labels)]
    splits = frozen_splits(backbone, data, size, device)
    test = splits["test"]
    logits = _outputs(classifier, test.pixels, device, "finetuned", "logits")
    found = score(profile.evaluate, params.seed, splits, logits)
    with atomic(metrics / "answers.json") as part:
        part.write_text(json.dumps(found.answers, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    with atomic_folder(metrics / "evaluate") as folder:
        draw_models(folder, found, splits, logits, names, params.seed)
        trained = load_pretext_model(pretrained)
        if trained is not None:
            draw_pretext(folder, *trained, test.pixels, profile.pretrain, params.seed, device)
    return found.results


def frozen_splits(backbone: nn.Module, data: Path, size: int, device: torch.device) -> dict[str, Split]:
    """The labelled photographs of roles train, val and test, and what the backbone, on its device, makes of them."""
    return {role: _split(backbone, data, role, size, device) for role in ("train", "val", "test")}


def _split(backbone: nn.Module, data: Path, role: str, size: int, device: torch.device) -> Split:
    rows = read_selection(data / "selection.parquet", role)
    pixels = FacePixels(data / "faces", rows, size)
    features = _outputs(backbone, pixels, device, f"features of {role}", "pooler_output")
    keys, names = rows["key"].to_pylist(), rows["identity"].to_pylist()
    return Split(pixels, keys, names, features, pixels.labels.numpy())


@torch.no_grad()
def _outputs(model: nn.Module, pixels: FacePixels, device: torch.device, name: str, which: str) -> np.ndarray:
    """One output of the model for every photograph, float32 N×D."""
    out = []
    with progress_bar() as bar:
        for rows in bar.track(batches(pixels), description=name):
            batch = pixels.__getitems__(rows)
            out.append(model(normalize(to_float(batch.images.to(device))))[which].float().cpu())
    return torch.cat(out).numpy()
