"""The ConvNeXt: random weights in the published sizes or a pretrained one, and folders that transformers loads.

Liu et al., "A ConvNet for the 2020s", CVPR 2022 (tiny, small, base); the smaller four are those of Woo et al.,
"ConvNeXt V2", CVPR 2023, with V1's blocks, as timm publishes them (convnext_atto … convnext_nano).
"""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub.utils import logging as logging_of_hub
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextImageProcessor,
    ConvNextModel,
)
from transformers.image_utils import PILImageResampling
from transformers.utils import logging

from facerep import params
from facerep.core.errors import FacerepError
from facerep.core.files import repository_root
from facerep.faces.transforms import IMAGENET_MEAN, IMAGENET_STD

# Our own sentences and progress bars say what matters; a fresh head is no news.
logging.set_verbosity_error()
logging.disable_progress_bar()
logging_of_hub.set_verbosity_error()  # nor are five retries before a sentence

# name: (blocks per stage, channels per stage)
SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "atto": ((2, 2, 6, 2), (40, 80, 160, 320)),
    "femto": ((2, 2, 6, 2), (48, 96, 192, 384)),
    "pico": ((2, 2, 6, 2), (64, 128, 256, 512)),
    "nano": ((2, 2, 8, 2), (80, 160, 320, 640)),
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
}


def build_backbone(settings: params.Model, seed: int, drop_path: float = 0.0) -> ConvNextModel:
    """The starting weights: random ones from `seed` in a published size, or those of a hub name or local folder.

    Raises FacerepError when the name is neither a size, nor a folder, nor to be had from the hub, or no ConvNeXt.
    """
    torch.manual_seed(seed)
    folder = local_weights(settings)
    if settings.name in SIZES:
        depths, widths = SIZES[settings.name]
        config = ConvNextConfig(
            depths=list(depths),
            hidden_sizes=list(widths),
            drop_path_rate=drop_path,
            image_size=settings.image_size,
        )
        return ConvNextModel(config)
    try:
        if folder is None and "/" not in settings.name:
            raise ValueError("names there are owner/model")  # at once: without a network the hub is tried for long
        config = AutoConfig.from_pretrained(folder or settings.name)
    except (OSError, ValueError) as error:
        raise FacerepError(
            f"model.name = {settings.name!r}: neither one of {', '.join(SIZES)}, nor a folder, nor a model that "
            f"huggingface.co gave us ({_first_line(error)})."
        ) from error
    if config.model_type != "convnext":
        raise FacerepError(f"model.name = {settings.name!r}: is a {config.model_type}; facerep needs a convnext.")
    config.drop_path_rate = drop_path
    config.image_size = settings.image_size
    return _load(ConvNextModel, folder or settings.name, config=config)


def local_weights(settings: params.Model) -> Path | None:
    """The folder of the starting weights where `name` is one; a relative one is taken from the repository's root."""
    folder = repository_root() / settings.name
    return folder if settings.name not in SIZES and folder.is_dir() else None


def starting_files(settings: params.Model) -> list[Path]:
    """The files of the starting weights, where they are a local folder's."""
    folder = local_weights(settings)
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder else []


def load_backbone(folder: str | Path) -> ConvNextModel:
    """The backbone of models/pretrained (or any ConvNext folder). Raises FacerepError when it is not there."""
    return _load(ConvNextModel, folder)


def load_classifier(folder: str | Path, **more: Any) -> ConvNextForImageClassification:
    """A classifier from a folder; `more` goes to `from_pretrained`. Raises FacerepError when it is not there."""
    return _load(ConvNextForImageClassification, folder, **more)


def new_classifier(
    backbone: str | Path, names: list[str], seed: int, drop_path: float = 0.0
) -> ConvNextForImageClassification:
    """The backbone of a folder with a fresh head (weights from `seed`), one output a name.

    Raises FacerepError when the folder is not there or holds no ConvNeXt.
    """
    torch.manual_seed(seed)
    config = load_backbone(backbone).config
    config.drop_path_rate = drop_path
    config.id2label = dict(enumerate(names))
    config.label2id = {name: n for n, name in enumerate(names)}
    torch.manual_seed(seed)
    return load_classifier(backbone, config=config)


def _load(kind: Any, source: str | Path, **more: Any) -> Any:
    if isinstance(source, Path) and not (source / "config.json").is_file():
        raise FacerepError(f"{source}: holds no model; run `dvc repro`, or `dvc pull`.")
    try:
        config = more.pop("config", None) or AutoConfig.from_pretrained(source)
        if config.model_type != "convnext":  # transformers would only warn, and draw all weights anew
            raise FacerepError(f"{source}: is a {config.model_type}; facerep needs a convnext.")
        # weights that lie there in half precision are trained in single: autocast alone decides about bf16
        return kind.from_pretrained(source, config=config, dtype=torch.float32, **more)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise FacerepError(f"{source}: cannot be loaded as a ConvNeXt ({_first_line(error)}).") from error


def image_processor(image_size: int) -> ConvNextImageProcessor:
    """The processor that makes of a photograph what training saw: resized to the size as a whole, normalised."""
    return ConvNextImageProcessor(
        size={"shortest_edge": image_size},
        crop_pct=1.0,
        resample=PILImageResampling.BICUBIC,
        image_mean=list(IMAGENET_MEAN),
        image_std=list(IMAGENET_STD),
    )


def freeze(model: ConvNextForImageClassification, trainable: str) -> None:
    """Leave trainable: `all`; `last_stage`, the last stage with the final norm and the head; `head`, the head alone."""
    if trainable == "all":
        return
    for parameter in model.convnext.parameters():
        parameter.requires_grad_(False)
    if trainable == "last_stage":
        for module in (model.convnext.encoder.stages[-1], model.convnext.layernorm):
            for parameter in module.parameters():
                parameter.requires_grad_(True)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
