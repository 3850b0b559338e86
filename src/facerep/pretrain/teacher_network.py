"""A trained vision model of transformers, frozen: photographs to its pooled features."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import MODEL_MAPPING, AutoConfig, AutoModel
from transformers.utils import cached_file

from facerep.core.errors import FacerepError
from facerep.nets.loading import first_line, folder_named

PROCESSOR = "preprocessor_config.json"
# What some processors do besides resizing and normalising; all of it is left out where the value is false or missing.
UNUSUAL = ("do_flip_channel_order", "include_top", "rescale_offset")
CLASS_TOKENS = ("cls_token", "class_token", "class_embedding")  # of the parameters that transformers' models have


class Eye(NamedTuple):
    """How a model wants its photographs, as its image processor says."""

    side: int  # pixels; photographs are square here
    mode: str  # of resizing: bilinear | bicubic, as torch names them
    mean: tuple[float, ...]  # three, of pixels in [0, 1]
    std: tuple[float, ...]


class TeacherNetwork(nn.Module):
    """A model as it was trained: no gradient, no dropout. Float [0, 1] N×3×h×h to float32 N×width.

    A photograph is resized as a whole: the middle that some image processors cut out is for photographs with a rim.

    Attributes:
        width: the number of features.
        pooling: what they are: `pooler_output` where the model has one and its weights are there (an untrained one is what
            transformers makes of a classifier's folder); else `class token`, the first of the last hidden state, where the
            model has such a token; else `mean`, over all places of the last hidden state.

    Raises ValueError, with a part of a sentence, where the model gives no features.
    """

    mean: Tensor  # 3×1×1
    std: Tensor

    def __init__(self, model: Any, eye: Eye, has_pooler: bool = True) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.side, self.mode = eye.side, eye.mode
        self.register_buffer("mean", torch.tensor(eye.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(eye.std).view(3, 1, 1), persistent=False)
        seen = torch.linspace(-1, 1, 3 * eye.side**2).view(1, 3, eye.side, eye.side)
        with torch.no_grad():
            first, again = self._output(seen), self._output(seen)
        if not torch.equal(first["last_hidden_state"], again["last_hidden_state"]):
            raise ValueError("gives other features each time that it sees the same photograph")
        tokens = {name.rpartition(".")[2] for name, _ in model.named_parameters()}
        if has_pooler and first.get("pooler_output") is not None:
            self.pooling = "pooler_output"
        else:
            self.pooling = "class token" if tokens & set(CLASS_TOKENS) else "mean"
        self.width = self._pooled(first).shape[1]

    def _output(self, pixels: Tensor) -> Any:
        output = self.model(pixel_values=pixels, return_dict=True)
        if output.get("last_hidden_state") is None:
            raise ValueError("gives no last hidden state")
        return output

    def _pooled(self, output: Any) -> Tensor:
        last: Tensor = output["last_hidden_state"]  # N×tokens×C, or N×C×h×w
        if self.pooling == "pooler_output":
            pooled: Tensor = output["pooler_output"].flatten(1)  # some end in 1×1
        elif self.pooling == "class token":
            pooled = last[:, 0]
        else:
            pooled = last.mean(1) if last.ndim == 3 else last.mean((2, 3))
        return pooled.float()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Float [0, 1] N×3×h×h to the features, float32 N×width."""
        if not len(images):  # a process's share of a small batch
            return images.new_zeros((0, self.width))
        # the antialiased one is as image processors resize, when enlarging too: torch's other bicubic is another curve
        size = (self.side, self.side)
        images = interpolate(images, size=size, mode=self.mode, antialias=True) if images.shape[2:] != size else images
        return self._pooled(self._output((images - self.mean) / self.std))


def load_teacher(name: str) -> TeacherNetwork:
    """The model of a hub name or a local folder, with the weights as they lie there, in fp32, on the CPU.

    Of a model with text and vision, as CLIP, it is the part that sees. No random draw of torch's is used up.

    Raises FacerepError, naming pretrain.teacher, where there is no such model, its weights or its image processor's
    configuration are not there, or it is none that sees photographs.
    """
    folder = folder_named(name)
    try:
        if folder is None and "/" not in name:
            raise ValueError("names there are owner/model")  # at once: without a network the hub is tried for long
        if folder is not None and not (folder / "config.json").is_file():
            raise FacerepError(f"pretrain.teacher = {name!r}: holds no model of transformers (no config.json).")
        config = AutoConfig.from_pretrained(folder or name)
    except (OSError, ValueError) as error:
        raise FacerepError(
            f"pretrain.teacher = {name!r}: neither a folder nor a model that huggingface.co gave us ({first_line(error)})."
        ) from error
    config = getattr(config, "vision_config", config)
    kind = MODEL_MAPPING.get(type(config), None)
    if getattr(kind, "main_input_name", None) != "pixel_values":
        raise FacerepError(
            f"pretrain.teacher = {name!r}: is a {config.model_type}; a teacher must be a model that sees photographs."
        )
    try:
        return _loaded(folder or name, config)
    except (ImportError, OSError, RuntimeError, SafetensorError, TypeError, ValueError) as error:
        raise FacerepError(
            f"pretrain.teacher = {name!r}: this {config.model_type} cannot teach ({first_line(error)})."
        ) from error


def _loaded(source: Path | str, config: Any) -> TeacherNetwork:
    """Raises ValueError and what transformers raises."""
    eye = _eye(source)
    with torch.random.fork_rng(devices=[]):  # weights that are not there are drawn
        model, found = AutoModel.from_pretrained(source, config=config, dtype=torch.float32, output_loading_info=True)
        missing = sorted(found["missing_keys"])
        absent = [key for key in missing if "pooler" not in key.split(".")]
        if absent:
            raise ValueError(f"{len(absent)} of its weights are not there, {absent[0]} for one")
        return TeacherNetwork(model, eye, has_pooler=not missing)


def _eye(source: Path | str) -> Eye:
    """What the image processor's configuration says. Raises ValueError where it cannot be followed."""
    says = _processor(source)
    unusual = [key for key in UNUSUAL if says.get(key)]
    if abs(says.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-3:
        unusual.append("rescale_factor")
    if unusual:
        raise ValueError(f"its {PROCESSOR} has {unusual[0]} = {says[unusual[0]]}, which facerep does not do")
    size = says.get("crop_size") if says.get("do_center_crop") else says.get("size")
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge")
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"its {PROCESSOR} names no size")
    mean, std = (0.0,) * 3, (1.0,) * 3
    if says.get("do_normalize", True):
        if not all(len(says.get(key) or ()) == 3 for key in ("image_mean", "image_std")):
            raise ValueError(f"its {PROCESSOR} names no image_mean and image_std of three channels")
        mean, std = tuple(says["image_mean"]), tuple(says["image_std"])
    mode = "bilinear" if says.get("resample", 2) == 2 else "bicubic"  # PIL's numbers; Lanczos is near to bicubic
    return Eye(size, mode, mean, std)


def _processor(source: Path | str) -> dict[str, Any]:
    """The image processor's configuration, read without the class that it is of, which would import torchvision."""
    found: dict[str, Any] | None = None
    for file, inside in ((PROCESSOR, None), ("processor_config.json", "image_processor")):
        path = cached_file(str(source), file, _raise_exceptions_for_missing_entries=False)
        if path is not None and found is None:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
            found = found if inside is None else found.get(inside)
    if found is None:
        raise ValueError(f"no {PROCESSOR}, which says how it wants its photographs; save its image processor beside it")
    return found
