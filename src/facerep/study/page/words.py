"""Numbers as the page writes them: rounded for the eye, and whole beneath it, so that no rounding hides anything."""

import math
from typing import NamedTuple

from markupsafe import Markup

MINUS, SPACE = "−", "\N{NO-BREAK SPACE}"


class Measure(NamedTuple):
    """How a measure is called and written: its values are multiplied by `scale` and rounded to `digits`."""

    name: str
    short: str
    scale: int
    digits: int
    unit: str
    points: str  # the unit of a difference


MEASURES = {
    "accuracy": Measure("Accuracy after fine-tuning", "accuracy", 100, 1, "%", "points"),
    "balanced_accuracy": Measure("Balanced accuracy after fine-tuning", "balanced accuracy", 100, 1, "%", "points"),
    "probe": Measure("Linear probe", "probe", 100, 1, "%", "points"),
    "knn": Measure("Nearest neighbours", "kNN", 100, 1, "%", "points"),
    "probe_balanced": Measure("Linear probe, balanced", "probe, balanced", 100, 1, "%", "points"),
    "knn_balanced": Measure("Nearest neighbours, balanced", "kNN, balanced", 100, 1, "%", "points"),
    "auc": Measure("Verification: AUC", "AUC", 1, 3, "", ""),
    "eer": Measure("Verification: equal error rate", "EER", 100, 1, "%", "points"),
}

# Of fine-tuning, the linear probe and nearest neighbours: over all photographs, or with every class alike.
FORMS = {
    "accuracy": ("accuracy", "probe", "knn"),
    "balanced_accuracy": ("balanced_accuracy", "probe_balanced", "knn_balanced"),
}


def fixed(value: float, digits: int, sign: bool = False) -> str:
    """A rounded number with a true minus; never a minus before zero."""
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def of_measure(value: float | None, measure: Measure, sign: bool = False) -> Markup:
    """A value or difference of a measure, without its unit."""
    return data(value, "" if value is None else fixed(measure.scale * value, measure.digits, sign))


def data(value: float | None, text: str) -> Markup:
    """The text, and in the markup the number that it stands for."""
    if value is None:
        return Markup('<span class="none">–</span>')
    return Markup('<data value="{}">{}</data>').format(repr(value), text)


def p_value(p: float | None) -> Markup:
    """Two digits that say something; nothing is ever 0."""
    if p is None:
        return data(None, "")
    return data(p, "< 0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}")


def probability(value: float | None) -> Markup:
    """Three digits; nothing is ever certain."""
    if value is None:
        return data(None, "")
    return data(value, "> 0.999" if value > 0.9995 else "< 0.001" if value < 0.0005 else f"{value:.3f}")


def plain(value: float | None, digits: int, sign: bool = False) -> Markup:
    """A number without a unit."""
    return data(value, "" if value is None else fixed(value, digits, sign))


def beyond(value: float | None, low: float, high: float, digits: int, sign: bool = False) -> Markup:
    """A number that was read off a curve between `low` and `high`: past its ends only that is said.

    `value` +inf stands for `high` or more, and -inf for less than `low`, as 0 does where it is below `low`.
    """
    if value is None:
        return data(None, "")
    if value == math.inf:
        return data(value, f"≥{SPACE}{round(high, digits):g}".replace("-", MINUS))
    if value == -math.inf or value < low:
        return data(value, f"<{SPACE}{round(low, digits):g}".replace("-", MINUS))
    return data(value, fixed(value, digits, sign))


def grouped(count: int) -> str:
    """A count with a narrow space between thousands."""
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def size(count: int) -> str:
    """Bytes in the unit that fits: 38.2 MB."""
    value, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f}{SPACE}bytes" if units[0] == "bytes" else f"{value:.3g}{SPACE}{units[0]}"


def duration(seconds: float) -> str:
    """Seconds as days, hours and minutes, the two largest: 17 h 0 min."""
    parts: list[str] = []
    rest = round(seconds)
    for name, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count or parts or name == "s":
            parts.append(f"{count}{SPACE}{name}")
    return " ".join(parts[:2])


def listed(words: list[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def signed_list(values: list[float], measure: Measure) -> str:
    """Values of a measure with its unit, as a screen reader reads them."""
    return ", ".join(f"{fixed(measure.scale * v, measure.digits)}{SPACE}{measure.unit}".strip() for v in values)
