"""Others' ConvNeXts under transformers' names: DINOv3's (Siméoni et al., 2025) and timm's, whose blocks are the same.

Each function gives a model type (`convnext` or `convnextv2`), the keys of its config, and its weights by their names in
ConvNextModel or ConvNextV2Model; a classifier's head is left out.
"""

import re
from typing import Any, NamedTuple

import torch
from torch import Tensor

from facerep.faces.transforms import IMAGENET_MEAN, IMAGENET_STD

EPS = 1e-6  # of the norms inside transformers' ConvNeXt, where no config can change it


class Converted(NamedTuple):
    """A backbone's weights as transformers names them, with what its config must say."""

    model_type: str
    config: dict[str, Any]
    weights: dict[str, Tensor]


# transformers' DINOv3ConvNextModel: what stands before its first stage is a part of it there
DINOV3 = [
    (r"^model\.stages\.0\.downsample_layers\.0\.", "embeddings.patch_embeddings."),
    (r"^model\.stages\.0\.downsample_layers\.1\.", "embeddings.layernorm."),
    (r"^model\.stages\.(\d+)\.downsample_layers\.", r"encoder.stages.\1.downsampling_layer."),
    (r"^model\.stages\.", "encoder.stages."),
    (r"\.depthwise_conv\.", ".dwconv."),
    (r"\.pointwise_conv", ".pwconv"),
    (r"(^|\.)layer_norm\.", r"\1layernorm."),
    (r"\.gamma$", ".layer_scale_parameter"),
]

# timm.models.convnext.ConvNeXt
TIMM = [
    (r"^stem\.0\.", "embeddings.patch_embeddings."),
    (r"^stem\.1\.", "embeddings.layernorm."),
    (r"^head\.norm\.", "layernorm."),
    (r"^stages\.(\d+)\.downsample\.", r"encoder.stages.\1.downsampling_layer."),
    (r"^stages\.(\d+)\.blocks\.", r"encoder.stages.\1.layers."),
    (r"\.conv_dw\.", ".dwconv."),
    (r"\.norm\.", ".layernorm."),
    (r"\.mlp\.fc", ".pwconv"),
    (r"\.mlp\.grn\.", ".grn."),
    (r"\.gamma$", ".layer_scale_parameter"),
]
OTHER_EPS = {"convnext_xxlarge"}  # timm's with 1e-5, which nothing in its files says
# timm's arguments that the weights show, or that are a head's or a training's
SHOWN = {
    "in_chans",
    "depths",
    "dims",
    "kernel_sizes",
    "stem_type",
    "patch_size",
    "ls_init_value",
    "use_grn",
    "conv_mlp",
}
SHOWN |= {"num_classes", "global_pool", "head_init_scale", "head_norm_first", "head_hidden_size", "conv_bias"}
SHOWN |= {"drop_rate", "drop_path_rate", "norm_eps"}


def from_dinov3(config: Any, weights: dict[str, Tensor]) -> Converted:
    """DINOv3's, from the config and the weights of transformers' DINOv3ConvNextModel.

    Its `pooler_output` is the same: there too the mean of the last map is normed. Its `last_hidden_state` is another:
    the mean and all places in a row, each normed; a ConvNextModel gives the map as it is.

    Raises ValueError for norms that transformers' ConvNeXt cannot have.
    """
    if config.layer_norm_eps != EPS:
        raise ValueError(f"its norms have eps {config.layer_norm_eps:g}, those of transformers' ConvNeXt {EPS:g}")
    keys = ("depths", "hidden_sizes", "hidden_act", "initializer_range", "layer_norm_eps", "num_channels")
    about = {key: getattr(config, key) for key in keys} | {"layer_scale_init_value": EPS}
    return Converted("convnext", about, {_renamed(name, DINOV3): value for name, value in weights.items()})


def from_timm(about: dict[str, Any], weights: dict[str, Tensor]) -> Converted:
    """timm's convnext_* and convnextv2_*, from its config.json and its weights.

    Where it was trained on images normalised in another way than ours, its first convolution takes up the difference.
    Weights of a masked autoencoder (fcmae) have no last norm: it is a fresh one, ones and zeros.

    Raises ValueError for what transformers' ConvNeXt cannot be, naming it.
    """
    _refuse_other_networks(about, weights)
    backbone = {
        _renamed(name, TIMM): _shaped(name, value.float())
        for name, value in weights.items()
        if not name.startswith("head.") or name.startswith("head.norm.")
    }
    first_blocks = [name for name in weights if re.fullmatch(r"stages\.\d\.blocks\.0\.conv_dw\.bias", name)]
    widths = [len(weights[name]) for name in sorted(first_blocks)]
    depths = [sum(name.startswith(f"stages.{n}.") and "conv_dw.bias" in name for name in weights) for n in range(4)]
    backbone.setdefault("layernorm.weight", torch.ones(widths[-1]))
    backbone.setdefault("layernorm.bias", torch.zeros(widths[-1]))
    _take_our_pixels(backbone, about.get("pretrained_cfg", about))
    config = {"depths": depths, "hidden_sizes": widths, "layer_norm_eps": EPS}
    if any(name.endswith(".grn.weight") for name in weights):
        return Converted("convnextv2", config, backbone)
    scaled = any(name.endswith(".gamma") for name in weights)
    return Converted("convnext", config | {"layer_scale_init_value": EPS if scaled else 0.0}, backbone)


def _refuse_other_networks(about: dict[str, Any], weights: dict[str, Tensor]) -> None:
    name, args = str(about.get("architecture")), about.get("model_args") or {}
    if not name.startswith("convnext") or "stem.0.weight" not in weights:
        raise ValueError(f"it is timm's {name}, no convnext")
    stem = tuple(weights["stem.0.weight"].shape[1:])
    kernels = {tuple(value.shape[2:]) for key, value in weights.items() if key.endswith("conv_dw.weight")}
    eps = args.get("norm_eps") or (1e-5 if name in OTHER_EPS else EPS)
    for wrong, words in (
        (stem != (3, 4, 4), f"its stem is a convolution of {stem}, not of patches of (3, 4, 4)"),
        ("stem.0.bias" not in weights, "its convolutions have no bias"),
        ("stem.1.bias" not in weights, "its norms are no LayerNorms with a bias"),
        ("norm_pre.weight" in weights, "it norms every place of its last map, not their mean"),
        (kernels != {(7, 7)}, f"its depthwise convolutions are of {sorted(kernels)}, not of (7, 7) alone"),
        (eps != EPS, f"its norms have eps {eps:g}, not {EPS:g}"),
        (args.keys() - SHOWN, f"it was made with {', '.join(sorted(args.keys() - SHOWN))}"),
    ):
        if wrong:
            raise ValueError(f"timm's {name}: {words}, as transformers' ConvNeXt has it; take another one")


def _renamed(name: str, pairs: list[tuple[str, str]]) -> str:
    for pattern, replacement in pairs:
        name = re.sub(pattern, replacement, name)
    return name


def _shaped(name: str, value: Tensor) -> Tensor:
    """timm's 1×1 convolutions are transformers' linear layers; its GRN's weights have no empty dimensions."""
    if re.search(r"\.mlp\.fc\d\.weight$", name):
        return value.flatten(1)
    return value.view(1, 1, 1, -1) if ".grn." in name else value


def _take_our_pixels(backbone: dict[str, Tensor], trained: dict[str, Any]) -> None:
    """Fold into the first convolution, which pads nothing, that pixels come normalised by ImageNet's mean and std."""
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    their_mean, their_std = (torch.tensor(trained.get(key, ours)) for key, ours in (("mean", mean), ("std", std)))
    weight, bias = "embeddings.patch_embeddings.weight", "embeddings.patch_embeddings.bias"
    shift = ((mean - their_mean) / their_std).view(3, 1, 1)
    backbone[bias] = backbone[bias] + (backbone[weight] * shift).sum((1, 2, 3))
    backbone[weight] = backbone[weight] * (std / their_std).view(3, 1, 1)
