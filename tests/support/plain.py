"""Slow plain versions of what facerep does fast: a pixel, a photograph or a pair at a time."""

from functools import lru_cache
from itertools import combinations

import numpy as np

# sRGB's primaries as IEC 61966-2-1 has them, as chromaticities x, y; its white, D65, as ASTM E308 has it.
PRIMARIES = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
D65 = np.array([0.95047, 1, 1.08883])


def xyz_of(chromaticity: tuple[float, float]) -> np.ndarray:
    x, y = chromaticity
    return np.array([x / y, 1, (1 - x - y) / y])


def plain_lab(rgb: np.ndarray) -> np.ndarray:
    """One pixel's R, G, B in [0, 1] to L, a, b, as the standards write it down."""
    columns = np.stack([xyz_of(primary) for primary in PRIMARIES], 1)
    matrix = columns * np.linalg.solve(columns, D65)  # primaries as bright as it takes to make white
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in map(float, rgb)]
    ratios = [float(value) for value in (matrix @ linear) / D65]
    x, y, z = (t ** (1 / 3) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116 for t in ratios)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def plain_knn(train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray, k: int) -> list[bool]:
    correct = []
    for x, y in zip(test_x.astype(np.float64), test_y, strict=True):
        near = []
        for place, other in enumerate(train_x.astype(np.float64)):
            near.append((-round(float(x @ other / np.linalg.norm(x) / np.linalg.norm(other)), 6), place))
        votes: dict[int, float] = {}
        for similarity, place in sorted(near)[:k]:
            votes[train_y[place]] = votes.get(train_y[place], 0) + np.exp(-similarity / 0.07)
        correct.append(max(votes, key=lambda label: (votes[label], -label)) == y)
    return correct


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def plain_pairs(features: np.ndarray, labels: np.ndarray) -> tuple[list[float], list[float]]:
    same: list[float] = []
    other: list[float] = []
    for i, j in combinations(range(len(labels)), 2):
        (same if labels[i] == labels[j] else other).append(cosine(features[i], features[j]))
    return same, other


def hamming(a: bytes, b: bytes) -> int:
    """In how many bits two hashes differ."""
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_count()


ORIENTATIONS = (
    "FLIP_LEFT_RIGHT",
    "FLIP_TOP_BOTTOM",
    "ROTATE_90",
    "ROTATE_180",
    "ROTATE_270",
    "TRANSPOSE",
    "TRANSVERSE",
)


@lru_cache(10_000)
def turned_hash(phash: bytes, how: str) -> bytes:
    """The hash that a picture has after Pillow's transpose `how`, were the median of its coefficients 0: bit by bit."""
    number = int.from_bytes(phash)
    bits = {(u, v): number >> (255 - 16 * (u - 1) - (v - 1)) & 1 for u in range(1, 17) for v in range(1, 17)}
    if how in ("ROTATE_90", "ROTATE_270", "TRANSPOSE", "TRANSVERSE"):  # a transpose, and then:
        bits = {(v, u): bit for (u, v), bit in bits.items()}
    if how in ("FLIP_LEFT_RIGHT", "ROTATE_180", "ROTATE_270", "TRANSVERSE"):
        bits = {(u, v): bit ^ v % 2 for (u, v), bit in bits.items()}
    if how in ("FLIP_TOP_BOTTOM", "ROTATE_180", "ROTATE_90", "TRANSVERSE"):
        bits = {(u, v): bit ^ u % 2 for (u, v), bit in bits.items()}
    return sum(bit << (255 - 16 * (u - 1) - (v - 1)) for (u, v), bit in bits.items()).to_bytes(32)
