"""params.yaml, checked: unknown keys, wrong types and impossible values are refused by name before any work starts.

The comments of params.yaml explain each key to its user; the classes here say what is allowed.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from facerep.core.errors import FacerepError
from facerep.pretexts import TEACHER, questions_of

Checked = TypeVar("Checked", bound=BaseModel)
NAME = r"^[a-z0-9][a-z0-9_]*$"  # of a study and of its variants: a part of an experiment's name
_SHA256 = r"^[0-9a-f]{64}$"
_FILE = r"^[^/\\.][^/\\]*$"
_EXECUTOR = r"^(processes|[a-z]+://.+)$"
_IN_WORDS = {
    NAME: "small letters a to z, digits and _ alone, and no _ at the beginning",
    _SHA256: "64 digits and small letters a to f, as sha256sum prints them",
    _FILE: "a file's name, without / and no dot at the beginning",
    _EXECUTOR: "processes, or a URL such as tcp://scheduler:8786",
}
Fraction = Annotated[float, Field(ge=0, lt=1)]  # a part that is held out: never everything
Probability = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]  # a part that is used: never nothing


def known_pretext(name: str) -> str:
    """The name, where it is a pretext's. Raises ValueError."""
    questions_of(name)
    return name


class Strict(BaseModel):
    """Refuse keys that nobody reads and values of another type (a whole number still serves as a float)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Archive(Strict):
    """One thing to download."""

    url: Annotated[str, Field(min_length=1)]
    sha256: Annotated[str, Field(pattern=_SHA256)] | None = None  # None: not checked
    name: Annotated[str, Field(pattern=_FILE)] | None = None  # None: the last part of the URL


class Download(Strict):
    """What `download` reads."""

    archives: Annotated[list[Archive], Field(min_length=1)]


class Crop(Strict):
    """What `crop` reads."""

    method: Literal["auto", "box", "detector", "center"]
    extend: Annotated[float, Field(ge=0, le=2)]
    size: Annotated[int, Field(ge=16, le=1024)]
    quality: Annotated[int, Field(ge=1, le=100)]
    shard_mb: Annotated[float, Field(gt=0, le=4096)]
    max_unreadable: Annotated[float, Field(ge=0, le=1)]
    max_megapixels: Annotated[float, Field(gt=0, le=1000)]
    oversample: Annotated[float, Field(ge=1)] | None
    executor: Annotated[str, Field(pattern=_EXECUTOR)]


class Select(Strict):
    """What `select` reads."""

    roles: Literal["by_split", "by_count", "by_folder"]
    per_identity: Annotated[int, Field(ge=1)]
    min_labelled: Annotated[int, Field(ge=3)]
    val_fraction: Annotated[float, Field(gt=0, lt=1)]
    test_fraction: Annotated[float, Field(gt=0, lt=1)]
    near_duplicate_bits: Annotated[int, Field(ge=0, le=64)]
    shared_photograph_bits: Annotated[int, Field(ge=0, le=64)]
    exclude: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> "Select":
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError("val_fraction + test_fraction must stay below 1, so that photographs are left to train on")
        return self


class Model(Strict):
    """Which ConvNeXt, the side of its input, and how its fresh blocks start."""

    name: Annotated[str, Field(min_length=1)]
    image_size: Annotated[int, Field(ge=32, le=1024, multiple_of=32)]
    layer_scale: Annotated[float, Field(gt=0, le=10)]


class Training(Strict):
    """What both training stages read; how long they last, each says for itself."""

    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Annotated[float, Field(gt=0, le=10)]
    layer_decay: Share
    weight_decay: Annotated[float, Field(ge=0, le=10)]
    warmup_ratio: Fraction
    schedule: Literal["cosine", "linear", "constant"]
    clip_norm: Annotated[float, Field(gt=0)] | None
    drop_path: Fraction
    ema_decay: Fraction
    min_crop_area: Share
    flip: bool
    color_jitter: Annotated[float, Field(ge=0, le=1)]
    hue: Annotated[float, Field(ge=0, le=0.5)]
    degrees: Annotated[float, Field(ge=0, le=180)]
    random_grayscale: Probability
    random_erasing: Probability
    score_every: Annotated[int, Field(ge=1)]  # epochs of pretraining, steps of fine-tuning
    keep: Literal["last", "best"]


class Pretrain(Training):
    """What `pretrain` reads; `select` reads include_labelled and score_knn_every, too."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]
    epochs: Annotated[int, Field(ge=1)]
    include_labelled: bool
    score_knn_every: Annotated[int, Field(ge=0)]
    val_fraction: Annotated[float, Field(gt=0, lt=0.5)]
    test_fraction: Annotated[float, Field(gt=0, lt=0.5)]
    rotations: Literal["drawn", "all"]
    turns_weight: Annotated[float, Field(gt=0)]
    color_space: Literal["rgb", "lab"]
    reconstruction_loss: Literal["classes", "huber", "l1", "l2"]
    colors_weight: Annotated[float, Field(gt=0)]
    temperature: Annotated[float, Field(ge=0.01, le=10)]
    teacher: Annotated[str, Field(min_length=1)] | None  # the pretext distillation must have one
    teacher_loss: Literal["cosine", "mse"]

    @model_validator(mode="after")
    def _classes_are_of_lab(self) -> "Pretrain":
        if self.reconstruction_loss == "classes" and self.color_space != "lab":
            raise ValueError(
                f"reconstruction_loss (classes) is of the two color channels of Lab, and color_space is {self.color_space}; "
                "set color_space to lab, or reconstruction_loss to huber, l1 or l2"
            )
        return self

    @model_validator(mode="after")
    def _the_curve_lies_beside_that_of_val(self) -> "Pretrain":
        if self.score_knn_every % self.score_every:
            raise ValueError(
                f"score_knn_every ({self.score_knn_every}) must be a multiple of score_every ({self.score_every}), or 0"
            )
        return self


class Finetune(Training):
    """What `finetune` reads."""

    steps: Annotated[int, Field(ge=1)]
    labels_per_identity: Annotated[int, Field(ge=1)] | None
    fewer_labels: bool
    head: Literal["random", "class_means", "linear_probe"]
    reset_last_stage: bool
    trainable: Literal["all", "last_stage", "norms", "head"]
    label_smoothing: Fraction
    mixup: Annotated[float, Field(ge=0, le=100)]

    @model_validator(mode="after")
    def _the_head_fits_what_it_stands_on(self) -> "Finetune":
        if self.reset_last_stage and self.head != "random":
            raise ValueError(
                f"head ({self.head}) is made from the features of the last stage, which reset_last_stage draws anew; "
                "set head to random, or reset_last_stage to false"
            )
        return self


class Probe(Strict):
    """What `probe` reads."""

    labels: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]
    verification_pairs: Annotated[int, Field(ge=100)]


class Evaluate(Strict):
    """What `evaluate` reads."""

    bootstrap: Annotated[int, Field(ge=100)]


class Params(Strict):
    """All of params.yaml."""

    pretext: Annotated[str, AfterValidator(known_pretext)]
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    measure: Literal["auto", "accuracy", "balanced_accuracy"]
    device: Literal["auto", "cpu", "cuda", "mps"]
    precision: Literal["auto", "fp32", "bf16"]
    threads: Annotated[int, Field(ge=1, le=1024)]
    memory_mb: Annotated[int, Field(ge=0)]
    compile: bool
    launcher: Annotated[str, Field(min_length=1)]
    save_every_s: Annotated[float, Field(gt=0)]
    download: Download
    crop: Crop
    select: Select
    model: Model
    pretrain: Pretrain
    probe: Probe
    finetune: Finetune
    evaluate: Evaluate

    @model_validator(mode="after")
    def _crops_are_large_enough(self) -> "Params":
        if self.crop.size < self.model.image_size:
            raise ValueError(
                f"crop.size ({self.crop.size}) must be at least model.image_size ({self.model.image_size}): "
                "faces are only ever made smaller"
            )
        return self

    @model_validator(mode="after")
    def _there_is_a_teacher(self) -> "Params":
        if TEACHER in questions_of(self.pretext) and self.pretrain.teacher is None:
            raise ValueError(
                f"pretrain.teacher = null: pretext = {self.pretext} learns from one; name a vision model of transformers, "
                "on huggingface.co or in a folder"
            )
        return self


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check params.yaml.

    Raises FacerepError naming the first key that is wrong, its value and what is allowed.
    """
    return checked(load_yaml(Path(path), "run from the repository's root"), Params, path)


def checked(raw: dict[str, Any], model: type[Checked], source: object) -> Checked:
    """Keys and values as a `model`. Raises FacerepError naming the `source` and the first key that is wrong."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise FacerepError(f"{source}: {_sentence(error, model)}") from None


def load_yaml(path: Path, hint: str) -> dict[str, Any]:
    """Keys and values of a YAML file. Raises FacerepError when it is not there (then with the `hint`) or holds no such."""
    try:
        raw = parse_yaml(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise FacerepError(f"{path}: not there; {hint}.") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise FacerepError(f"{path}: not YAML ({_where(error)}).") from None
    if not isinstance(raw, dict):
        raise FacerepError(f"{path}: must hold keys and values, holds {type(raw).__name__}.")
    return raw


def parse_yaml(text: str) -> Any:
    """YAML 1.2, as DVC reads and writes it: 2e-05 is a number (PyYAML takes it for a string), a key stands once."""
    return YAML(typ="safe", pure=True).load(text)


def _where(error: Exception) -> str:
    """What is wrong with a text that is no YAML, and in which line."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {' '.join(str(error.problem).split())}"
    return " ".join(str(error).split())


def _sentence(error: ValidationError, model: type[BaseModel]) -> str:
    """The first complaint of pydantic about a `model` as one sentence, and how many more there are."""
    first, *more = error.errors()
    key = ".".join(str(part) for part in first["loc"] if part != "[key]")
    if first["type"] == "extra_forbidden":
        known = ", ".join(_known_keys(model, first["loc"][:-1]))
        text = f"unknown key {key}; known here: {known}"
    elif first["type"] == "missing":
        text = f"key {key} is missing"
    else:
        shown = "" if isinstance(first["input"], dict) else f" = {first['input']!r}"
        said = first["msg"].removeprefix("Value error, ")
        if first["type"] == "string_pattern_mismatch":
            said = f"must be {_IN_WORDS[first['ctx']['pattern']]}"
        elif first["loc"][-1:] == ("[key]",) and first["type"] == "string_type":
            said = "a key must be text here; put it in quotes"
        if first["loc"][-1:] == ("[key]",):
            shown = ""  # it is the key
        text = f"{key}{shown}: {said}" if key else said
    return text + (f" (and {len(more)} more)." if more else ".")


def _known_keys(block: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that the block at `location` allows; of a list or a mapping of blocks, those of any."""
    for part in location:
        field = block.model_fields.get(str(part))
        found = _block_in(field.annotation) if field is not None else None
        block = found or block
    return list(block.model_fields)


def _block_in(annotation: Any) -> type[BaseModel] | None:
    """The first block that a type speaks of: `Tune | None`, `list[Archive]`, `dict[str, Variant]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_block_in, get_args(annotation))), None)
