"""A perceptual hash: photographs that look the same have hashes that differ in few bits.

The DCT hash of pHash (Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010), with 256
bits in place of 64, since faces cropped alike share much of their coarsest structure.
"""

from itertools import pairwise

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

BITS = 256


def perceptual_hash(image: Image.Image) -> bytes:
    """The 256-bit hash of an image of any size and mode, as 32 bytes."""
    grey = np.asarray(image.convert("L").resize((64, 64), Image.Resampling.LANCZOS), dtype=np.float64)
    low = dctn(grey, norm="ortho")[:17, :17].ravel()[1 : BITS + 1]  # without the mean brightness
    return np.packbits(low > np.median(low)).tobytes()


def hamming(a: bytes, b: bytes) -> int:
    """In how many bits two hashes differ."""
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_count()


def near_duplicate_groups(hashes: np.ndarray, max_bits: int) -> np.ndarray:
    """Groups of hashes that are linked by steps of at most `max_bits` bits: int64 N, the group of each row.

    Exact: of max_bits + 1 bands of bits, two hashes within max_bits share at least one (the pigeonhole principle), so
    only hashes that share a band are compared. Equal hashes are merged first.

    Args:
        hashes: uint8 N×32.
    """
    unique, inverse = np.unique(hashes, axis=0, return_inverse=True)
    bits = np.unpackbits(unique, axis=1)
    words = unique.view(np.uint64)
    edges: list[np.ndarray] = []
    for band in np.array_split(np.arange(BITS), max_bits + 1):
        packed = np.packbits(bits[:, band], axis=1)
        _, bucket = np.unique(packed, axis=0, return_inverse=True)
        order = np.argsort(bucket.ravel(), kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(bucket.ravel()[order]) > 0, True])
        for start, stop in pairwise(starts):
            if stop - start > 1:
                edges += _close_pairs(words, order[start:stop], max_bits)
    pairs = np.concatenate(edges) if edges else np.empty((0, 2), np.int64)
    n = len(unique)
    graph = coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    groups: np.ndarray = connected_components(graph, directed=False)[1][inverse.ravel()].astype(np.int64)
    return groups


def _close_pairs(words: np.ndarray, rows: np.ndarray, max_bits: int) -> list[np.ndarray]:
    """The pairs among `rows` within max_bits, a row at a time so that memory stays small."""
    out = []
    for k, row in enumerate(rows[:-1]):
        rest = rows[k + 1 :]
        close = rest[np.bitwise_count(words[rest] ^ words[row]).sum(1) <= max_bits]
        if len(close):
            out.append(np.stack([np.full(len(close), row), close], 1))
    return out
