"""A study: one YAML file that says what is compared, checked before any work starts."""

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, PlainValidator, field_validator, model_validator

from facerep.params import NAME, Strict, checked, known_pretext, load_yaml

Name = Annotated[str, Field(pattern=NAME, max_length=40)]
Setting = dict[str, Any]  # keys of params.yaml, such as finetune.steps, and their values
Labels = Annotated[int, Field(ge=1)]
Pretext = Annotated[str, AfterValidator(known_pretext)]
Value = bool | int | float | str  # of a key of params.yaml that is tuned
N = TypeVar("N", int, Value, str)
# keys of params.yaml that a study has a key of its own for
_ITS_OWN = {"measure": "measure", "seed": "seeds", "pretrain.seed": "pretraining_seeds", "pretext": "variants"}


def _a_value(value: Any) -> Value:
    if isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ValueError("must be a number, text, true or false")


class Variant(Strict):
    """What is done to the unlabelled photographs."""

    about: Annotated[str, Field(min_length=1)]  # a line for the reader of the results
    pretext: Pretext
    set: Setting = Field(default_factory=dict)
    budgets: dict[Labels, Setting] = Field(default_factory=dict)  # at one budget alone
    tuned: bool | Name = True  # false: takes the values as they stand; a variant's name: those chosen for that one
    needs_hub: bool = False  # left out where the hub does not give `model.name` of its `set`
    extra_budgets: dict[Labels, Setting] = Field(default_factory=dict)  # where others are not run: more of a curve


class Tune(Strict):
    """What is chosen on val, for each variant by itself, one key after the other."""

    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    labels: Annotated[list[Labels], Field(min_length=1)]
    grid: dict[str, Annotated[list[Annotated[Value, PlainValidator(_a_value)]], Field(min_length=2)]]
    beyond: Annotated[int, Field(ge=0)] = 0  # how often a grid of numbers may go on while its best lies at an end

    @field_validator("seeds", "labels")
    @classmethod
    def _once_each(cls, values: list[int]) -> list[int]:
        return _no_two(values)

    @field_validator("grid")
    @classmethod
    def _each_value_once(cls, grid: dict[str, list[Value]]) -> dict[str, list[Value]]:
        return {key: _no_two(values) for key, values in grid.items()}


class Study(Strict):
    """All of a study's YAML file."""

    name: Name
    title: Annotated[str, Field(min_length=1)]
    preset: str  # of presets/: where everything that the study does not name comes from
    baseline: Name
    also_beat: list[Name] = Field(default_factory=list)  # to help, a variant must be above these, too
    primary: Name | None = (
        None  # the variant that the study is about, named before it is run: judged without correction
    )
    measure: Literal["auto", "accuracy", "balanced_accuracy"] = "auto"  # what chooses and decides; as in params.yaml
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    # seed number i is pretrained with number i of these, counted around; where nothing is pretrained, with itself
    pretraining_seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = Field(
        default_factory=lambda: [0]
    )
    budgets: Annotated[dict[Labels, Setting], Field(min_length=1)]  # labels per identity, and what goes with them
    set: Setting = Field(default_factory=dict)
    variants: Annotated[dict[Name, Variant], Field(min_length=2)]
    tune: Tune | None = None
    watts_per_core: Annotated[float, Field(gt=0)] = 10.0  # where the machine does not tell what it draws
    photographs: bool = True  # whether the page shows photographs: false where they are not to be published

    @model_validator(mode="after")
    def _it_fits_together(self) -> "Study":
        if self.baseline not in self.variants:
            raise ValueError(f"baseline {self.baseline!r}: none of the variants {', '.join(self.variants)}")
        for key, named in (("also_beat", self.also_beat), ("primary", [self.primary] if self.primary else [])):
            for name in named:
                if name not in self.variants:
                    raise ValueError(f"{key} {name!r}: none of the variants {', '.join(self.variants)}")
        for name, variant in self.variants.items():
            if isinstance(alike := variant.tuned, str):
                other = self.variants.get(alike)
                if other is None or other.tuned is not True or other.needs_hub:
                    raise ValueError(
                        f"variants.{name}.tuned {alike!r}: name a variant that is always run and tuned itself"
                    )
            if variant.needs_hub and "model.name" not in variant.set:
                raise ValueError(f"variants.{name}.needs_hub: its set names no model.name")
            if variant.needs_hub and name in (self.baseline, self.primary, *self.also_beat):
                raise ValueError(f"variants.{name}.needs_hub: a variant that others are compared with is always run")
        if self.baseline in self.also_beat:
            raise ValueError(
                f"also_beat {self.baseline!r}: is the baseline, which every variant must beat; take it out"
            )
        if self.primary in self.rivals:
            raise ValueError(f"primary {self.primary!r}: is what the others must beat; name one of them")
        for name, variant in self.variants.items():
            for labels in variant.budgets:
                if labels not in self.budgets:
                    raise ValueError(f"variants.{name}.budgets: {labels} labels are no budget of this study")
            for labels in variant.extra_budgets:
                if labels in self.budgets:
                    raise ValueError(
                        f"variants.{name}.extra_budgets: {labels} labels are a budget of every variant; see budgets"
                    )
                if name not in self.rivals:
                    raise ValueError(
                        f"variants.{name}.extra_budgets: only the baseline and those of also_beat have any: labels saved "
                        "are read off their curves"
                    )
        own = [
            each
            for one in self.variants.values()
            for each in (one.set, *one.budgets.values(), *one.extra_budgets.values())
        ]
        grid = self.tune.grid if self.tune is not None else {}
        keys = {key for each in (self.set, *self.budgets.values(), *own, grid) for key in each}
        for key in sorted(keys & _ITS_OWN.keys()):
            raise ValueError(f"set: {key} is said by a key of the study itself, {_ITS_OWN[key]}")
        if self.tune is not None and (extra := sorted(set(self.tune.labels) - set(self.budgets))):
            raise ValueError(f"tune.labels: {extra[0]} labels are no budget of this study")
        return self

    @field_validator("seeds", "pretraining_seeds")
    @classmethod
    def _once_each(cls, seeds: list[int]) -> list[int]:
        return _no_two(seeds)

    @field_validator("also_beat")
    @classmethod
    def _no_two_rivals(cls, names: list[str]) -> list[str]:
        return _no_two(names)

    @property
    def rivals(self) -> list[str]:
        """What a variant must beat: the baseline, and those of `also_beat`."""
        return [self.baseline, *self.also_beat]

    def budgets_of(self, variant: str) -> dict[int, Setting]:
        """The budgets at which a variant is run, rising, and what goes with each."""
        return dict(sorted((self.budgets | self.variants[variant].extra_budgets).items()))


def _no_two(values: list[N]) -> list[N]:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{value if isinstance(value, str) else json.dumps(value)} stands there twice")
    return values


def load_study(path: str | Path) -> Study:
    """Read and check a study's YAML file.

    Raises FacerepError naming the first key that is wrong, its value and what is allowed.
    """
    path = Path(path)
    raw = load_yaml(path, "name a study's YAML file, such as studies/demo.yaml")
    return checked(raw, Study, path)
