"""How many photographs parameters send through a network, by the counts of metrics/select.json alone."""

from collections.abc import Iterable
from math import ceil
from typing import Any

from facerep.params import Params
from facerep.pretexts import TEACHER, questions_of
from facerep.pretrain.pretext import Pretext

LEAST, LEAST_OF_CONTRAST = 500_000, 2_000_000  # views; with fewer nobody can tell whether pretraining helps


def passes(params: Params) -> float:
    """How many photographs' worth of pixels pretraining sends through the network for each of an epoch; 0: none."""
    return Pretext(params.pretext, params.pretrain).passes


def needs_names(params: Params) -> bool:
    """Whether the pretext leaves out the photographs without a name."""
    return Pretext(params.pretext, params.pretrain).needs_names


def has_teacher(params: Params) -> bool:
    """Whether another network looks at each crop, too."""
    return TEACHER in questions_of(params.pretext)


def pool(params: Params, selected: dict[str, Any]) -> int:
    """The photographs that the pretext has, its own val and test among them.

    `selected` is metrics/select.json; where `named` stands beside the `photographs` of role pretrain, a pretext that needs
    names has only these.
    """
    roles = selected["roles"]
    photographs: int = roles["pretrain"]["photographs"]
    if needs_names(params):
        return min(photographs, roles["pretrain"].get("named", photographs))
    without_names: int = roles.get("train", {}).get("photographs", 0) if params.pretrain.include_labelled else 0
    return photographs + without_names


def labelled(params: Params, selected: dict[str, Any]) -> int:
    """The photographs that fine-tuning has: no more than there are of role train."""
    train: int | None = selected["roles"].get("train", {}).get("photographs")
    each = params.finetune.labels_per_identity
    if each is None:
        return train or 0
    asked: int = each * selected["labelled_identities"]
    return asked if train is None else min(asked, train)


def learned(params: Params, there: float) -> float:
    """How many photographs fine-tuning sends through the network, of `there` that it has.

    Batches are as even as can be (facerep.faces.batches.EpochBatches), so that most are smaller than `batch_size`.
    """
    return params.finetune.steps * there / ceil(there / params.finetune.batch_size) if there else 0.0


def views(params: Params, selected: dict[str, Any]) -> float:
    """How many photographs' worth of pixels a pretraining sends through the network; 0: none."""
    held_out = params.pretrain.val_fraction + params.pretrain.test_fraction
    return (1 - held_out) * pool(params, selected) * params.pretrain.epochs * passes(params)


def too_few(runs: Iterable[tuple[str, Params]], selected: dict[str, Any]) -> list[str]:
    """A sentence for each variant with fewer views than pretraining can be judged by; `runs`: variants with parameters.

    Of a variant with several the fewest count. None where nothing is known of the photographs.
    """
    if not selected.get("roles", {}).get("pretrain"):
        return []
    fewest: dict[str, tuple[float, Params]] = {}
    for variant, params in runs:
        seen = views(params, selected)
        if seen and seen < fewest.get(variant, (float("inf"), params))[0]:
            fewest[variant] = seen, params
    return [
        f"{variant}: {seen:,.0f} views of {pool(params, selected):,} photographs are too few to judge pretraining by; "
        f"raise pretrain.epochs (to {ceil(params.pretrain.epochs * enough(params) / seen):,})."
        for variant, (seen, params) in fewest.items()
        if seen < enough(params)
    ]


def enough(params: Params) -> int:
    """From how many views on a pretraining can be judged; contrast between views wants more."""
    return LEAST_OF_CONTRAST if Pretext(params.pretext, params.pretrain).views > 1 else LEAST
