"""The ConvNeXt: random weights in the published sizes or pretrained ones, and folders that transformers loads.

Liu et al., "A ConvNet for the 2020s", CVPR 2022 (tiny, small, base); the smaller four are those of Woo et al.,
"ConvNeXt V2", CVPR 2023, with V1's blocks, as timm publishes them (convnext_atto … convnext_nano).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import nn

from facerep import params
from facerep.core.errors import FacerepError
from facerep.faces.transforms import IMAGENET_MEAN, IMAGENET_STD
from facerep.nets.loading import (
    KINDS,
    about_of,
    config_of,
    converted,
    files_in,
    first_line,
    folder_named,
    library,
    load,
)

if TYPE_CHECKING:
    from transformers import (
        ConvNextForImageClassification,
        ConvNextImageProcessor,
        ConvNextModel,
        ConvNextV2ForImageClassification,
        ConvNextV2Model,
    )

    Backbone: TypeAlias = ConvNextModel | ConvNextV2Model
    Classifier: TypeAlias = ConvNextForImageClassification | ConvNextV2ForImageClassification

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


def build_backbone(settings: params.Model, seed: int, drop_path: float = 0.0) -> "Backbone":
    """The starting weights: random ones from `seed` in a published size, or those of a hub name or local folder.

    These are transformers' ConvNeXt and ConvNeXt V2, its DINOv3 ConvNeXt, and timm's convnext_* and convnextv2_*; the
    last two become transformers' ConvNeXt or V2. Of `settings`, layer_scale is what fresh blocks start with: random
    starts' here, and those that `reset_last_stage` draws.

    Raises FacerepError when the name is neither a size, nor a folder, nor to be had from the hub, or no such network.
    """
    torch.manual_seed(seed)
    fresh = {"drop_path_rate": drop_path, "image_size": settings.image_size}
    if settings.name in SIZES:
        depths, widths = SIZES[settings.name]
        config = library().ConvNextConfig(
            depths=list(depths), hidden_sizes=list(widths), layer_scale_init_value=settings.layer_scale, **fresh
        )
        return library().ConvNextModel(config)
    source = local_weights(settings) or settings.name
    about = _about_start(source, settings.name)
    model_type = about.get("model_type")
    if model_type in KINDS:
        config = config_of(source, about, **fresh)
        backbone = load("Model", source, config)
    elif model_type in ("dinov3_convnext", "timm_wrapper"):
        backbone = converted(source, about, fresh)
    else:
        raise FacerepError(
            f"model.name = {settings.name!r}: is a {model_type}; facerep needs a convnext, convnextv2, dinov3_convnext "
            "or timm's convnext."
        )
    if getattr(backbone.config, "layer_scale_init_value", 0) > 0:  # 0: its blocks have none, fresh ones neither
        backbone.config.layer_scale_init_value = settings.layer_scale
    return backbone


def local_weights(settings: params.Model) -> Path | None:
    """The folder of the starting weights where `name` is one and no size; see folder_named."""
    return None if settings.name in SIZES else folder_named(settings.name)


def starting_files(settings: params.Model) -> list[Path]:
    """The files of the starting weights, where they are a local folder's."""
    return files_in(local_weights(settings))


def _about_start(source: str | Path, name: str) -> dict[str, Any]:
    """The config.json of starting weights."""
    try:
        if isinstance(source, str) and "/" not in source:
            raise ValueError("names there are owner/model")  # at once: without a network the hub is tried for long
        return about_of(source)
    except (OSError, ValueError) as error:
        raise FacerepError(
            f"model.name = {name!r}: neither one of {', '.join(SIZES)}, nor a folder, nor a model that "
            f"huggingface.co gave us ({first_line(error)})."
        ) from error


def load_backbone(folder: str | Path) -> "Backbone":
    """The backbone of models/pretrained (or any ConvNeXt's or V2's folder). Raises FacerepError when it is not there."""
    return load("Model", folder, config_of(folder))


def load_classifier(folder: str | Path) -> "Classifier":
    """A classifier from a folder. Raises FacerepError when it is not there, or has no head."""
    return load("ForImageClassification", folder, config_of(folder))


def new_classifier(backbone: str | Path, names: list[str], seed: int, drop_path: float = 0.0) -> "Classifier":
    """The backbone of a folder with a fresh head (weights from `seed`), one output a name.

    Raises FacerepError when the folder is not there or holds no ConvNeXt.
    """
    labels: dict[str, Any] = {"id2label": dict(enumerate(names)), "label2id": {name: n for n, name in enumerate(names)}}
    config = config_of(backbone, drop_path_rate=drop_path, **labels)
    torch.manual_seed(seed)
    return load("ForImageClassification", backbone, config, fresh="classifier.")


def image_processor(image_size: int) -> "ConvNextImageProcessor":
    """The processor that makes of a photograph what training saw: resized to the size as a whole, normalised."""
    return library().ConvNextImageProcessor(
        size={"shortest_edge": image_size},
        crop_pct=1.0,
        resample=library().image_utils.PILImageResampling.BICUBIC,
        image_mean=list(IMAGENET_MEAN),
        image_std=list(IMAGENET_STD),
    )


def freeze(model: "Classifier", trainable: str) -> None:
    """Leave trainable, besides the head: `all`, `last_stage` (with the final norm), `norms`, or of `head` nothing more.

    `norms` are the weights and biases of all LayerNorms and GRNs, and no other: few enough for few labels (Frankle et
    al., "Training BatchNorm and only BatchNorm", ICLR 2021; Ben Zaken et al., "BitFit", ACL 2022, for biases).
    """
    if trainable == "all":
        return
    backbone = model.base_model
    backbone.requires_grad_(False)
    if trainable == "last_stage":
        backbone.encoder.stages[-1].requires_grad_(True)
        backbone.layernorm.requires_grad_(True)
    if trainable == "norms":
        for name, module in backbone.named_modules():
            if isinstance(module, nn.LayerNorm) or name.endswith(".grn"):
                module.requires_grad_(True)


def reset_last_stage(model: "Classifier", seed: int) -> None:
    """Draw the last stage from `seed` as a random start has it: its blocks, its downsampling and the final norm.

    A pretext bends the last stage to itself most: after rotation the one before is often the better feature (Kolesnikov
    et al., "Revisiting self-supervised visual representation learning", CVPR 2019). Layer scales start at the
    `layer_scale_init_value` of the model's config, where build_backbone keeps model.layer_scale.
    """
    torch.manual_seed(seed)
    backbone = model.base_model
    fresh = type(backbone)(backbone.config)
    backbone.encoder.stages[-1].load_state_dict(fresh.encoder.stages[-1].state_dict())
    backbone.layernorm.load_state_dict(fresh.layernorm.state_dict())
