"""Words that the verdict and its rules share."""

from facerep.faces.measure import BALANCED
from facerep.study.analysis.statistics import ALPHA, smallest_p
from facerep.study.config import Study


def beaten(study: Study) -> str:
    """What a variant has to beat, in words."""
    if not study.also_beat:
        return study.baseline
    return f"the {'better' if len(study.rivals) == 2 else 'best'} of {listed(study.rivals)}"


def kind(measure: str | None) -> str:
    """A word before "test accuracy"."""
    return "balanced " if measure == BALANCED else ""


def enough(family: int) -> int:
    """From how many seeds on so many comparisons can be called at all."""
    return next(n for n in range(2, 64) if smallest_p(n) * family < ALPHA)


def points(difference: float) -> str:
    """A difference in percentage points."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def p_text(value: float) -> str:
    """A p value."""
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def seeds_text(number: int) -> str:
    """1 seed, 2 seeds."""
    return f"{number} seed" if number == 1 else f"{number} seeds"


def listed(names: list[str]) -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
