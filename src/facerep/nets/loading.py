"""Weights of folders and of hub names in transformers' classes, or one sentence on why they are no ConvNeXt."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from facerep.core.errors import FacerepError
from facerep.core.files import repository_root
from facerep.nets.convert import Converted, from_dinov3, from_timm

# what a folder's config calls it: how transformers' classes begin
KINDS = {"convnext": "ConvNext", "convnextv2": "ConvNextV2"}
UNUSABLE = (OSError, ValueError, LookupError, RuntimeError, SafetensorError)  # what a folder that is none ends in


def folder_named(name: str) -> Path | None:
    """The local folder where a model's `name` is one; a relative one is taken from the repository's root."""
    folder = repository_root() / name
    return folder if folder.is_dir() else None


def files_in(folder: Path | None) -> list[Path]:
    """The files of a local folder of weights, sorted; none where there is no folder."""
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder else []


def about_of(source: str | Path) -> dict[str, Any]:
    """The config.json of a folder or hub name; `model_type` is timm_wrapper for timm's. Raises OSError without one."""
    about: dict[str, Any] = library().PreTrainedConfig.get_config_dict(source)[0]
    return about


def config_of(source: str | Path, about: dict[str, Any] | None = None, **changed: Any) -> Any:
    """The config of a ConvNeXt's or V2's folder or hub name, with some keys `changed`."""
    if isinstance(source, Path) and not (source / "config.json").is_file():
        raise FacerepError(f"{source}: holds no model; run `dvc repro`, or `dvc pull`.")
    try:
        about = about_of(source) if about is None else about
        model_type = about.get("model_type")
        if model_type not in KINDS:  # transformers would only warn, and draw all weights anew
            raise FacerepError(f"{source}: is a {model_type}; facerep needs a convnext or convnextv2.")
        return getattr(library(), f"{KINDS[model_type]}Config").from_dict(about | changed)
    except UNUSABLE as error:
        _refuse(source, error)


def load(kind: str, source: str | Path, config: Any, fresh: str | None = None) -> Any:
    """The network of a folder or hub name; weights whose names begin with `fresh` may be missing, and are drawn."""
    try:
        model_class = getattr(library(), f"{KINDS[config.model_type]}{kind}")
        # weights that lie there in half precision are trained in single: autocast alone decides about bf16
        model, info = model_class.from_pretrained(source, config=config, dtype=torch.float32, output_loading_info=True)
        _refuse_missing(name for name in info["missing_keys"] if fresh is None or not name.startswith(fresh))
        return model
    except UNUSABLE as error:
        _refuse(source, error)


def converted(source: str | Path, about: dict[str, Any], fresh: dict[str, Any]) -> Any:
    """The backbone of a folder or hub name of DINOv3's or timm's, with `fresh` in its config."""
    try:
        found = _dinov3(source) if about["model_type"] == "dinov3_convnext" else _timm(source, about)
        kind = KINDS[found.model_type]
        config = getattr(library(), f"{kind}Config")(**found.config, **fresh)
        backbone = getattr(library(), f"{kind}Model")(config)
        backbone.load_state_dict(found.weights)  # refuses what is missing, left over or of another shape
        return backbone
    except UNUSABLE as error:
        _refuse(source, error)


def _dinov3(source: str | Path) -> Converted:
    model, info = library().DINOv3ConvNextModel.from_pretrained(source, dtype=torch.float32, output_loading_info=True)
    _refuse_missing(info["missing_keys"])
    return from_dinov3(model.config, model.state_dict())


def _timm(source: str | Path, about: dict[str, Any]) -> Converted:
    return from_timm(about, load_file(library().utils.cached_file(source, "model.safetensors")))


def _refuse_missing(names: Iterable[str]) -> None:
    missing = sorted(names)
    if missing:
        raise ValueError(f"its weights have no {missing[0]}" + (f" and {len(missing) - 1} more" if missing[1:] else ""))


def _refuse(source: str | Path, error: Exception) -> NoReturn:
    raise FacerepError(f"{source}: cannot be loaded as a ConvNeXt ({first_line(error)}).") from error


@cache
def library() -> Any:
    """transformers, which takes seconds to import: whoever builds no network does without."""
    import transformers
    from huggingface_hub.utils import logging as logging_of_hub

    # our own sentences and progress bars say what matters; a fresh head is no news
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging_of_hub.set_verbosity_error()  # nor are five retries before a sentence
    return transformers


def first_line(error: Exception) -> str:
    """What an error says first, for the end of a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
