"""Which runs a study is made of, and the `dvc exp run` line of each."""

import hashlib
import json
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from facerep.core.errors import FacerepError
from facerep.params import Params, load_yaml, sentence
from facerep.pretrain.pretexts import pretext_named
from facerep.study.config import Setting, Study, key_in_params

# No result depends on these: they are left out of a run's name.
_INDIFFERENT = ("launcher", "save_every_s")
_WORD = re.compile(r"[A-Za-z_][\w.-]*")  # what Hydra takes for a text without quotes …
_NO_WORDS = ("true", "false", "null", "nan", "inf", "infinity")  # … but for these


class Run(NamedTuple):
    """One run: what it is called among DVC's experiments, and what it changes in params.yaml."""

    variant: str
    labels: int
    seed: int
    name: str  # the study, the variant, labels and seed, and the start of a hash of all the parameters
    settings: dict[str, Any]  # full keys of params.yaml

    @property
    def arguments(self) -> list[str]:
        """What `dvc exp run` is given."""
        changes = (f"{key}={_override(value)}" for key, value in self.settings.items())
        return ["--name", self.name, *(part for change in changes for part in ("-S", change))]

    @property
    def line(self) -> str:
        """The line that a user would type to queue it."""
        return shlex.join(["dvc", "exp", "run", "--queue", *self.arguments])


class Planner:
    """The runs of a study on top of the params.yaml that is there. Raises FacerepError for what that refuses."""

    def __init__(self, study: Study, params: Path = Path("params.yaml")) -> None:
        self.study = study
        self.base = load_yaml(params, "run from the repository's root")
        for variant in study.variants.values():
            pretext_named(variant.pretext)

    def run(self, variant: str, labels: int, seed: int, tuned: Setting) -> Run:
        """One run; `tuned` has the last word."""
        study, about = self.study, self.study.variants[variant]
        settings: dict[str, Any] = {"profile": study.profile, "pretext": about.pretext, "seed": seed}
        budget = {"finetune.labels_per_identity": labels, "evaluate.probe_labels": sorted(study.budgets)}
        for part in (study.set, budget, study.budgets[labels], about.set, about.budgets.get(labels, {}), tuned):
            settings |= {key_in_params(key, study.profile): value for key, value in part.items()}
        digest = self._digest(settings)
        return Run(variant, labels, seed, f"{study.name}-{variant}-{labels}-s{seed}-{digest}", settings)

    def runs(self, tuned: dict[str, Setting], seeds: list[int] | None = None) -> list[Run]:
        """All runs: a seed after the other, and in it a budget after the other, so that models are pretrained once."""
        study = self.study
        return [
            self.run(variant, labels, seed, tuned.get(variant, {}))
            for seed in (study.seeds if seeds is None else seeds)
            for labels in sorted(study.budgets)
            for variant in study.variants
        ]

    def _digest(self, settings: dict[str, Any]) -> str:
        raw = json.loads(json.dumps(self.base))
        for key, value in settings.items():
            _put(raw, key, value)
        try:
            params = Params.model_validate(raw)
        except ValidationError as error:
            raise FacerepError(f"study {self.study.name}: {sentence(error, Params)}") from None
        top = params.model_dump(exclude={*_profiles(params), *_INDIFFERENT})
        text = json.dumps([top, params.active.model_dump()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def _profiles(params: Params) -> list[str]:
    """Of the blocks the active one counts, whatever it is called."""
    return [name for name in type(params).model_fields if hasattr(getattr(params, name), "download")]


def _put(raw: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for number, part in enumerate(path, 1):
        raw = raw.get(part, {})
        if not isinstance(raw, dict) or not raw:
            raise FacerepError(f"{key}: params.yaml has no block {'.'.join(path[:number])}.")
    raw[last] = value


def _override(value: Any) -> str:
    """A value as Hydra's override grammar wants it."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}: {_override(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_override(part) for part in value) + "]"
    if isinstance(value, str) and not (_WORD.fullmatch(value) and value.lower() not in _NO_WORDS):
        # a backslash is itself, but before a quote
        return "'" + re.sub(r"(\\*)('|\Z)", lambda m: 2 * m[1] + "\\'" * bool(m[2]), value) + "'"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
