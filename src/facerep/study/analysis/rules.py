"""The rules that the verdict follows, written down for its readers."""

from typing import Any

from facerep.faces.measure import BALANCED
from facerep.study.analysis.compare import HELPS, HURTS, NEITHER, corrected
from facerep.study.analysis.phrases import beaten, enough, kind, listed, p_text, seeds_text
from facerep.study.analysis.statistics import ALPHA, smallest_p
from facerep.study.config import Study

Row = dict[str, Any]


def rules_of(study: Study, judged: dict[str, Row], measure: str | None) -> list[str]:
    """The rules, a paragraph each. `judged` are the rows that decide, by variant."""
    rules = [
        f"A variant {HELPS} (or {HURTS}) when p after Holm's correction is below {ALPHA:g} and the 95 % interval of its "
        f"difference to {beaten(study)} leaves out 0. Else there is {NEITHER}, and the smallest true difference is named "
        "that this rule would have called in 80 of 100 such studies.",
        *_rules_of_comparison(study),
        f"The verdict is on the {kind(measure)}test accuracy of fine-tuning, as the mean over the label budgets; the "
        f"smallest budget is told beside it. {_why(study, measure)}Each budget, the linear "
        "probe, nearest neighbours and verification stand beside it in the table. Each is corrected for the number of "
        "variants, but not for the number of such rows: of many a few are called by luck.",
        "Runs are paired by seed: the same photographs to learn from and to be judged by, in the same order. p is of an "
        "exact permutation test: the share of all flips of the seeds' signs with so large a difference.",
        "The interval is that of a hierarchical bootstrap over seeds and test photographs, widened for few seeds "
        "(Hesterberg 2015). The seeds split one pool of photographs, and p takes them for independent, which alone would "
        "call too much; that is why the interval has to agree.",
    ]
    if any((row["pretrainings"] or 0) > 1 for row in judged.values()):
        rules.append(
            "Where several seeds share a pretrained model, the bootstrap draws pretrainings first, then seeds among those "
            "of each, then photographs, and is widened for so few pretrainings. p takes the pretrained models as they are."
        )
    rules.append(
        f"The labels saved are read off the fitted curve of {beaten(study)} over the logarithm of labels, between the "
        "smallest and the largest budget at which it was measured and never beyond. Labels are those that fine-tuning "
        "learns from; val, on which settings are chosen, has further ones, the same for every variant."
    )
    if study.tune is not None:
        rules.append(_tuning_rule(study, measure))
    together = [row for name, row in judged.items() if name in corrected(study)]
    if together:
        seeds, family = min(row["seeds"] for row in together), len(corrected(study))
        least = min(1.0, smallest_p(seeds) * family)
        text = f"With {seeds_text(seeds)} and {family} variant{'s' * (family > 1)} the smallest p after Holm is "
        end = f", so that nothing could be called: that takes {enough(family)} seeds." if least >= ALPHA else "."
        rules.append(f"{text}{p_text(least)}{end}")
    return rules


def _rules_of_comparison(study: Study) -> list[str]:
    """What it takes to beat several, and what a variant that was named beforehand is spared."""
    rules = []
    if study.also_beat:
        those = f"{listed(study.also_beat)} {'is' if len(study.also_beat) == 1 else 'are'}"
        rules.append(
            f"To help, a variant has to be above each of {listed(study.rivals)} by this rule, and to hurt below each. p is "
            "the largest of these comparisons, which their number needs no correction for (Berger 1982); the difference "
            f"shown is that to the one with the best mean, in each row anew. {those} "
            f"compared with {study.baseline} alone and without correction, as a measure of the others."
        )
    if study.primary is not None:
        number = len(corrected(study))
        rules.append(
            f"{study.primary} was named as the primary variant before it was run: its comparison decides by itself, without "
            f"correction. Those of the {number} other{'s' * (number != 1)} are corrected for their number."
        )
    return rules


def _why(study: Study, measure: str | None) -> str:
    """Why this measure decides; of older runs nobody knows."""
    if measure is None:
        return ""
    what = (
        "Balanced accuracy, the mean over the classes of the share answered rightly," if kind(measure) else "Accuracy"
    )
    if study.measure != "auto":
        return f"{what} decides, since the study's file says so. "
    if measure == BALANCED:
        return (
            f"{what} decides, since the largest class has over twice as many photographs as the smallest: by plain "
            "accuracy the largest class would decide nearly alone. "
        )
    return f"{what} decides, since the largest class has at most twice as many photographs as the smallest. "


def _tuning_rule(study: Study, measure: str | None) -> str:
    assert study.tune is not None
    seeds = listed([str(seed) for seed in sorted(study.tune.seeds)])
    labels = listed([str(labels) for labels in sorted(study.tune.labels)])
    text = (
        f"Settings are tuned for each variant by itself, over the same values, by the {kind(measure)}accuracy on val of "
        f"seed {seeds} with {labels} labels"
    )
    if study.tune.beyond:
        text += ", and beyond these values where the best lies at their end"
    for name, variant in study.variants.items():
        if isinstance(variant.tuned, str):
            text += f"; {name} takes those of {variant.tuned}"
    if as_they_stand := [name for name, variant in study.variants.items() if not variant.tuned]:
        text += f"; those of {listed(as_they_stand)} are not tuned"
    return (
        f"{text}. No choice looks at test. Other seeds split the same photographs anew and may test on some of that val; "
        "and one choice serves all seeds, so that its luck is in no interval."
    )
