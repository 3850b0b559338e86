"""Networks and settings so small that a training run takes a second."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import ConvNextConfig, ConvNextForImageClassification, ConvNextModel

from facerep.models import PretextModel
from facerep.params import Finetune, Pretrain
from facerep.pixels import FacePixels
from facerep.pretexts import pretext_named
from facerep.runtime import Runtime
from facerep.training import Fit, fit

Splits = dict[str, FacePixels]
RUNTIME = Runtime("cpu", "fp32", 1, 0)
COMMON: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 8,
    "learning_rate": 0.003,
    "weight_decay": 0.05,
    "warmup_epochs": 1,
    "schedule": "cosine",
    "clip_norm": 1.0,
    "min_crop_area": 0.6,
    "flip": True,
    "memory_mb": 64,
}


def finetuning(**changes: Any) -> Finetune:
    return Finetune(**(COMMON | {"trainable": "all", "label_smoothing": 0.1} | changes))


def pretraining(**changes: Any) -> Pretrain:
    return Pretrain(**(COMMON | {"val_fraction": 0.1, "test_fraction": 0.1, "reconstruction_weight": 1.0} | changes))


def micro_config(**more: Any) -> ConvNextConfig:
    return ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], image_size=32, **more)


def classifier(seed: int = 0, drop_path: float = 0.3) -> ConvNextForImageClassification:
    torch.manual_seed(seed)
    return ConvNextForImageClassification(micro_config(num_labels=4, drop_path_rate=drop_path))


def pretext_model(name: str, seed: int = 0) -> PretextModel:
    torch.manual_seed(seed)
    return PretextModel(ConvNextModel(micro_config()), pretext_named(name).head(16))


def bits(model: nn.Module) -> dict[str, bytes]:
    return {name: value.contiguous().numpy().tobytes() for name, value in model.state_dict().items()}


def run(
    model: nn.Module, task: Any, splits: Splits, place: Path, settings: Any = None, runtime: Runtime = RUNTIME
) -> Fit:
    return fit(model, task, splits, settings or finetuning(), runtime, place / "scratch", place / "curves", "finetune")


def curves_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
