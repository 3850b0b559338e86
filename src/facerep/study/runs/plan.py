"""Which runs a study is made of, and the `dvc exp run` line of each."""

import hashlib
import json
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from facerep.params import Params, checked, load_yaml
from facerep.presets import changes, merged, override
from facerep.pretexts import questions_of
from facerep.study.config import Setting, Study

# No result depends on these: they are left out of a run's name.
_INDIFFERENT = ("launcher", "save_every_s")
_RUNTIME = ("device", "precision", "threads", "memory_mb", "compile")
# What a pretrained model depends on. What they say of labelled photographs alone counts, too: it hardly ever differs.
_OF_PRETRAINING = ("pretext", *_RUNTIME, "download", "crop", "select", "model", "pretrain")


class Run(NamedTuple):
    """One run: what it is called among DVC's experiments, and what it changes in params.yaml."""

    variant: str
    labels: int
    seed: int
    name: str  # the study, the variant, labels and seed, and the start of a hash of all the parameters
    settings: dict[str, Any]  # keys of params.yaml

    @property
    def arguments(self) -> list[str]:
        """What `dvc exp run` is given."""
        changes = (f"{key}={override(value)}" for key, value in self.settings.items())
        return ["--name", self.name, *(part for change in changes for part in ("-S", change))]

    @property
    def line(self) -> str:
        """The line that a user would type to queue it."""
        return shlex.join(["dvc", "exp", "run", "--queue", *self.arguments])


class Planner:
    """The runs of a study: its preset and its settings, on top of params.yaml. Raises FacerepError for what is refused."""

    def __init__(self, study: Study, params: Path = Path("params.yaml")) -> None:
        self.study = study
        self.base = load_yaml(params, "run from the repository's root")
        self.preset = changes(study.preset, params)

    @property
    def noun(self) -> str:
        """What a label names: a `class` where class folders make the labelled task, else an `identity`."""
        params = checked(merged(self.base, {**self.preset, **self.study.set}), Params, f"study {self.study.name}")
        return "class" if params.select.roles == "by_folder" else "identity"

    def run(self, variant: str, labels: int, seed: int, tuned: Setting) -> Run:
        """One run; `tuned` has the last word."""
        study, about = self.study, self.study.variants[variant]
        settings: dict[str, Any] = {**self.preset, "pretext": about.pretext, "seed": seed, "measure": study.measure}
        settings["pretrain.seed"] = self.pretraining_seed(variant, seed)
        budgets = study.budgets_of(variant)
        budget = {"finetune.labels_per_identity": labels, "probe.labels": list(budgets)}
        for part in (study.set, budget, budgets[labels], about.set, about.budgets.get(labels, {}), tuned):
            settings |= part
        digest = self._digest(settings)
        return Run(variant, labels, seed, f"{study.name}-{variant}-{labels}-s{seed}-{digest}", settings)

    def pretraining_seed(self, variant: str, seed: int) -> int:
        """With which seed the model is pretrained that runs of this seed fine-tune.

        A start that is not trained costs nothing: each seed has its own.
        """
        study = self.study
        if not questions_of(study.variants[variant].pretext):
            return seed
        known = [*study.seeds, *(study.tune.seeds if study.tune is not None else [])]
        place = known.index(seed) if seed in known else 0
        return study.pretraining_seeds[place % len(study.pretraining_seeds)]

    def pretraining(self, run: Run) -> str | None:
        """What a run's pretrained model depends on: runs of the same text share it. None where nothing is pretrained."""
        params = self.params(run.settings)
        if not questions_of(params.pretext):
            return None
        of = {name: value for name, value in params.model_dump().items() if name in _OF_PRETRAINING}
        if params.pretrain.include_labelled or params.pretrain.score_knn_every:
            of["seed"] = params.seed  # it says which labelled photographs lie in pretraining.parquet
        return json.dumps(of, sort_keys=True)

    def pretrained_once(self, runs: list[Run]) -> list[Run]:
        """The same runs: those that need no pretrained model, then one of each model, then the others.

        So jobs side by side pretrain different models, and none waits until another has the one that both need.
        """
        known: set[str] = set()
        wave: dict[str, int] = {}
        for run in runs:
            model = self.pretraining(run)
            wave[run.name] = 0 if model is None else 2 if model in known else 1
            known |= {model} if model is not None else set()
        return sorted(runs, key=lambda run: wave[run.name])

    def runs(self, tuned: dict[str, Setting], seeds: list[int] | None = None) -> list[Run]:
        """All runs: a seed after the other, and in it a budget after the other, so that models are pretrained once."""
        study = self.study
        every = sorted({labels for variant in study.variants for labels in study.budgets_of(variant)})
        return [
            self.run(variant, labels, seed, tuned.get(variant, {}))
            for seed in (study.seeds if seeds is None else seeds)
            for labels in every
            for variant in study.variants
            if labels in study.budgets_of(variant)
        ]

    def params(self, settings: dict[str, Any]) -> Params:
        """All the parameters of a run with these settings."""
        return checked(merged(self.base, settings), Params, f"study {self.study.name}")

    def _digest(self, settings: dict[str, Any]) -> str:
        text = json.dumps(self.params(settings).model_dump(exclude=set(_INDIFFERENT)), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]
