"""A backbone with a pretext's heads: built, saved and loaded. The heads lie beside the backbone's transformers folder."""

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from facerep.nets.convnext import load_backbone
from facerep.nets.features import stages_of
from facerep.params import Pretrain as Settings
from facerep.pretrain.pretext import Pretext

HEADS = "pretext_head.safetensors"  # beside the backbone; transformers does not look at it


class PretextModel(nn.Module):
    """A backbone with a pretext's heads: normalised inputs by name to answers by question.

    Args:
        backbone: a ConvNextModel or ConvNextV2Model.
        pretext: whose heads are drawn.
        identities: how many names there are, where asked.
    """

    def __init__(self, backbone: Any, pretext: Pretext, identities: int = 0) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = pretext.heads(backbone.config.hidden_sizes, identities)
        self.looks_at = {question.name: question.input for question in pretext.questions}
        if list(self.heads) == ["colors"]:  # the one that looks at no pooled features: their norm would get no gradient
            backbone.layernorm.requires_grad_(False)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Any]:
        """Normalised float32 N×3×h×h each, in the order in which `draw_drop_path` counts them."""
        features = {name: stages_of(self.backbone, images) for name, images in inputs.items()}
        return {name: head(features[self.looks_at[name]]) for name, head in self.heads.items()}


def save_pretext_model(model: PretextModel, pretext: Pretext, folder: Path) -> None:
    """Write the backbone as transformers does and, where the pretext trains, its heads and settings beside it."""
    model.backbone.save_pretrained(folder)
    if pretext.trains:
        about = {"name": pretext.name, "pretrain": pretext.params.model_dump()}
        metadata = {"pretext": json.dumps(about)}  # one key: safetensors writes several in any order
        save_file({name: t.contiguous() for name, t in model.heads.state_dict().items()}, folder / HEADS, metadata)


def load_pretext_model(folder: Path) -> tuple[Pretext, PretextModel] | None:
    """The pretext and the model that `save_pretext_model` wrote; None where the pretext did not train."""
    if not (folder / HEADS).is_file():
        return None
    with safe_open(folder / HEADS, "pt") as file:
        about = json.loads(file.metadata()["pretext"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    pretext = Pretext(about["name"], Settings(**about["pretrain"]))
    for question in pretext.questions:
        question.recall(weights)
    backbone = load_backbone(folder)
    names = weights.get("names.layers.bias")
    model = PretextModel(backbone, pretext, 0 if names is None else len(names))
    model.heads.load_state_dict(weights)
    return pretext, model.eval()
