"""Which faces resemble a person of a labelled task, and from which distance on that is too much.

Plain arithmetic on vectors of length 1 that lie near one another for two photographs of one person. The distance of a face
from a person is the Euclidean one from the mean of the person's vectors. That of the nearest photograph, or of the third
nearest, tells people apart less well on LFW: who has five hundred photographs resembles everybody by one of them.
"""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facerep.core.errors import FacerepError
from facerep.core.files import atomic

COLUMNS = ("key", "identity", "distance")
DIGITS = 3  # of a distance in a list: another machine's arithmetic differs further on


class Near(NamedTuple):
    """Of each face the nearest person of another name."""

    people: np.ndarray  # str N
    distances: np.ndarray  # float64 N, 0 to 2


def nearest_people(vectors: np.ndarray, identities: np.ndarray, labelled: np.ndarray) -> Near:
    """Of each face the nearest person of the labelled task who does not have its own name; of equals the first by name.

    Args:
        vectors: float N×D, of length 1.
        identities: str N.
        labelled: bool N, which of them are the labelled task's: two people or more.
    """
    people, means = means_of(vectors[labelled], identities[labelled])
    away = _distances(vectors.astype(np.float64), means)
    away[identities[:, None] == people] = np.inf
    best = away.argmin(axis=1)
    return Near(people[best], away[np.arange(len(away)), best])


def means_of(vectors: np.ndarray, identities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The names (str P, sorted) and the mean of each one's vectors (float64 P×D)."""
    names, number, counts = np.unique(identities, return_inverse=True, return_counts=True)
    sums = np.zeros((len(names), vectors.shape[1]))
    np.add.at(sums, number, vectors)
    return names, sums / counts[:, None]


def own_distances(vectors: np.ndarray, identities: np.ndarray) -> np.ndarray:
    """Of each photograph its distance from the mean of its person's other photographs, float64 N; NaN where there is none.

    Args:
        vectors: float N×D, of length 1.
        identities: str N.
    """
    names, means = means_of(vectors, identities)
    number = np.searchsorted(names, identities)
    counts = np.bincount(number)[number][:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        others = (means[number] * counts - vectors) / (counts - 1)
    others[counts[:, 0] == 1] = np.nan
    distances: np.ndarray = np.linalg.norm(vectors - others, axis=1)
    return distances


def too_near(near: Near, own: np.ndarray, threshold: float) -> np.ndarray:
    """Which faces (bool N) are within the threshold, and nearer than to their own name's other photographs (NaN: none)."""
    found: np.ndarray = (near.distances < threshold) & ~(own <= near.distances)
    return found


def threshold_at(strangers: np.ndarray, rate: float) -> float:
    """The distance within which at most the share `rate` of strangers lies: the smallest that is one too many.

    Args:
        strangers: float64 N, distances of faces that are none of the people.
        rate: 0 < rate < 1.

    Raises FacerepError where there are too few strangers to tell.
    """
    allowed = int(rate * len(strangers) + 1e-9)
    if not 0 < allowed < len(strangers):
        raise FacerepError(
            f"--false-alarms {rate:g}: cannot be read off {len(strangers):,} photographs of other people; "
            "give the share of them that may be taken for somebody else, at least one and not all."
        )
    return float(np.sort(strangers)[allowed])


def write_list(path: Path, keys: np.ndarray, near: Near, chosen: np.ndarray) -> None:
    """A CSV of the chosen faces, sorted by key: key, identity (whom it resembles), distance."""
    rows = sorted(
        zip(keys[chosen].tolist(), near.people[chosen].tolist(), near.distances[chosen].tolist(), strict=True)
    )
    with atomic(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows((key, identity, f"{distance:.{DIGITS}f}") for key, identity, distance in rows)


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """float64 N×M, of N×D and M×D."""
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    distances: np.ndarray = np.sqrt(squares.clip(0))
    return distances
