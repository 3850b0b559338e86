"""A backbone with a pretext's head: built, saved and loaded. The head lies beside the backbone's transformers folder."""

import json
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import ConvNextModel

from facerep.nets.convnext import load_backbone
from facerep.pretrain.heads import Answer, PretextHead
from facerep.pretrain.pretext import Pretext, Variant
from facerep.pretrain.pretexts import pretext_named

HEAD = "pretext_head.safetensors"  # beside the backbone; transformers does not look at it


class PretextModel(nn.Module):
    """A backbone with a pretext's head: normalised B×3×H×H to an Answer."""

    def __init__(self, backbone: ConvNextModel, head: PretextHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        if not head.pools:  # then nobody asks for the pooled features: their norm would never get a gradient
            backbone.layernorm.requires_grad_(False)

    def forward(self, pixel_values: Tensor) -> Answer:
        """Normalised float32 B×3×H×H to an Answer."""
        features = self.backbone(pixel_values)
        answer: Answer = self.head(features.last_hidden_state, features.pooler_output)
        return answer


def save_pretext_model(model: PretextModel, pretext: Pretext, folder: Path) -> None:
    """Write the backbone as transformers does and, where the pretext trains, its head and its variant beside it."""
    model.backbone.save_pretrained(folder)
    if pretext.trains:
        about = {"name": pretext.name, **pretext.variant._asdict()}
        metadata = {"pretext": json.dumps(about)}  # one key: safetensors writes several in any order
        save_file({name: t.contiguous() for name, t in model.head.state_dict().items()}, folder / HEAD, metadata)


def load_pretext_model(folder: Path) -> tuple[Pretext, PretextModel] | None:
    """The pretext and the model that `save_pretext_model` wrote; None where the pretext did not train."""
    if not (folder / HEAD).is_file():
        return None
    with safe_open(folder / HEAD, "pt") as file:
        about = json.loads(file.metadata()["pretext"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    pretext = pretext_named(about.pop("name"), Variant(**about))
    backbone = load_backbone(folder)
    identities = len(weights["names.bias"]) if "names.bias" in weights else 0
    model = PretextModel(backbone, pretext.head(backbone.config.hidden_sizes[-1], identities))
    model.head.load_state_dict(weights)
    return pretext, model.eval()
