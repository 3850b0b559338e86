"""The bootstrap of a study: photographs within seeds, seeds within pretrainings, each drawn with replacement."""

import numpy as np

from facerep.core.errors import FacerepError

CHUNK = 1 << 17  # draws held at a time; no result depends on it


def photograph_bootstrap(
    outcomes: list[np.ndarray], resamples: int, seed: int, classes: list[np.ndarray] | None = None
) -> np.ndarray:
    """Means of resampled photographs, float64 S×R×K; with the `classes` of each seed's photographs (m_s) balanced ones.

    `outcomes` holds for each of the S seeds float or bool m_s×K: a photograph a row, an arm and budget a column. The
    same draws serve all columns, so that what is paired stays paired. Seed number s draws from (`seed`, s) alone.

    A balanced mean is over the classes, of their own means. Each class is resampled by itself: of its n photographs n-1,
    which makes the spread right, while n would be too sure of a small class (McCarthy & Snowden, "The bootstrap and
    finite population sampling", Vital and Health Statistics 2-95, 1985).

    Raises FacerepError where a seed has no photograph.
    """
    replicates = []
    for number, values in enumerate(outcomes):
        if not len(values):
            raise FacerepError(
                f"study: seed number {number} (from 0) has no test photograph; raise select.test_fraction."
            )
        rng = np.random.default_rng([seed, number])
        if classes is None:
            replicates.append(_resampled(values, len(values), resamples, rng))
            continue
        groups = [values[classes[number] == each] for each in np.unique(classes[number])]
        drawn = [_resampled(group, max(1, len(group) - 1), resamples, rng) for group in groups]
        replicates.append(np.mean(drawn, axis=0))
    return np.stack(replicates)


def _resampled(values: np.ndarray, draws: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Means over so many photographs drawn with replacement, float64 R×K."""
    step = max(1, CHUNK // len(values))
    columns = values.astype(np.float64)
    parts = [
        _weights(rng, min(step, resamples - start), draws, len(values)) @ columns / draws
        for start in range(0, resamples, step)
    ]
    return np.concatenate(parts)


def _weights(rng: np.random.Generator, resamples: int, draws: int, photographs: int) -> np.ndarray:
    """How often each photograph is drawn, float64 resamples×photographs."""
    drawn = rng.integers(photographs, size=(resamples, draws))
    drawn += photographs * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * photographs)
    return counts.reshape(resamples, photographs).astype(np.float64)


def hierarchical_bootstrap(
    within: np.ndarray, resamples: int, seed: int, pretrainings: np.ndarray | None = None
) -> np.ndarray:
    """Means over seeds drawn with replacement, each by one of its own replicates drawn at random, float64 B×K.

    `within` is float S×R×K, from `photograph_bootstrap` or as verification brings it; the same draws serve all K. A
    replicate with NaN in any column (verification: no pair of photographs) is not drawn.

    `pretrainings`, S of them, says which seeds share a pretrained model: these are drawn first, with replacement, and
    then seeds among those of each that was drawn. None: each seed has its own, or all have the same one.

    Davison & Hinkley, "Bootstrap Methods and their Application" (1997), section 3.8; with more than two levels Ren et
    al., "Nonparametric bootstrapping for hierarchical data", J. Appl. Statist. 37 (2010). Drawing at all levels counts
    the noise of the photographs twice, once among the seeds, whose differences hold it already, and once within: were the
    seeds independent, the variance would be up to twice the true one. They are not, since they split one pool of
    photographs and so share test photographs (Nadeau & Bengio, "Inference for the generalization error", Machine
    Learning 52, 2003); to draw seeds alone, or Student's t, makes no allowance for that and covers too rarely.

    Raises FacerepError where a seed has nothing but such replicates.
    """
    seeds, _, columns = within.shape
    broken = np.isnan(within).any(2)
    whole = (~broken).sum(1)
    if not whole.all():
        raise FacerepError(
            f"study: no bootstrap replicate of seed number {int(whole.argmin())} (from 0) has a value; raise "
            "select.test_fraction or evaluate.verification_bootstrap."
        )
    whole_first = np.argsort(broken, axis=1, kind="stable")
    rng = np.random.default_rng(seed)
    if pretrainings is None:
        rows = rng.integers(seeds, size=(seeds, resamples))
        counts = np.ones(rows.shape, bool)
    else:
        rows, counts = _nested(pretrainings, resamples, rng)
    drawn = whole_first[rows, rng.integers(whole[rows])]
    total = np.zeros((resamples, columns))
    for row, place, count in zip(rows, drawn, counts, strict=True):
        total += within[row, place] * count[:, None]
    return total / counts.sum(0)[:, None]


def _nested(pretrainings: np.ndarray, resamples: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Seeds by way of pretrainings, int T×B, and which of them count, bool T×B: the others fill up smaller groups."""
    names, group = np.unique(pretrainings, return_inverse=True)
    sizes = np.bincount(group)
    members = np.argsort(group, kind="stable")
    first = np.cumsum(sizes) - sizes
    drawn = rng.integers(len(names), size=(len(names), 1, resamples))
    places = rng.integers(np.broadcast_to(sizes[drawn], (len(names), sizes.max(), resamples)))
    counts = np.arange(sizes.max())[:, None] < sizes[drawn]
    rows = members[first[drawn] + places]
    return rows.reshape(-1, resamples), counts.reshape(-1, resamples)
