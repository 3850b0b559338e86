"""Studies whose truth is known: right and wrong answers with the dependence that real ones have."""

import numpy as np
from scipy.stats import norm

SHARED = 0.7  # of the variance of an answer: how hard the photograph is, for every arm alike


def study(
    trials: int,
    seeds: int,
    photographs: int,
    arms: list[float],
    spread: float,
    rng: np.random.Generator,
    fraction: float | None = None,
    persistent: float = 0.3,
) -> list[np.ndarray]:
    """Bool photographs×trials×arms for each seed; arm a answers right with probability arms[a] on average, exactly.

    `spread` is the standard deviation, between trainings, of the difference of two arms. Without `fraction` every seed
    tests on photographs of its own. With it a seed draws that part of one pool, as select does, and the share
    `persistent` of what an arm makes of a photograph stays from seed to seed.
    """
    pool = round(photographs / fraction) if fraction else seeds * photographs
    hard = rng.standard_normal((pool, trials, 1), np.float32) * SHARED**0.5
    own = rng.standard_normal((pool, trials, len(arms)), np.float32) * (persistent * (1 - SHARED)) ** 0.5
    lasting = hard + own
    out = []
    for seed in range(seeds):
        first = seed * photographs
        rows = rng.permutation(pool)[:photographs] if fraction else slice(first, first + photographs)
        noise = rng.standard_normal((photographs, trials, len(arms)), np.float32)
        trained = np.array(arms) + spread / 2**0.5 * rng.standard_normal((trials, len(arms)))
        out.append(lasting[rows] + ((1 - persistent) * (1 - SHARED)) ** 0.5 * noise < norm.ppf(trained))
    return out
