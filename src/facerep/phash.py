"""A perceptual hash: photographs that look the same have hashes that differ in few bits.

The DCT hash of pHash (Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010), with 256
bits in place of 64, since photographs of faces share much of their coarsest structure.
"""

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

BITS = 256
_SIDE = 16  # of the square of coefficients that give the bits
_BLOCK = 2**16  # rows that are unpacked at once
_MANY = 2**20  # edges after which groups are merged, so that a crowd of look-alikes does not fill the memory


def perceptual_hash(image: Image.Image) -> bytes:
    """The 256-bit hash of an image of any size and mode, as 32 bytes. A blank image has no bits set.

    A bit says whether one of the 16×16 lowest frequencies of the grey image, squeezed to 64×64, lies above their
    median. The first row and column of the transform, brightness and plain gradients, are left out as in pHash.
    """
    grey = np.asarray(image.convert("L").resize((64, 64), Image.Resampling.LANCZOS), dtype=np.float64)
    low = dctn(grey, norm="ortho")[1 : _SIDE + 1, 1 : _SIDE + 1].round(6)  # round: no bits from rounding errors
    return np.packbits(low > np.median(low)).tobytes()


def hamming(a: bytes, b: bytes) -> int:
    """In how many bits two hashes differ."""
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_count()


def near_duplicate_groups(hashes: np.ndarray, max_bits: int) -> np.ndarray:
    """Groups of hashes that are linked by steps of at most `max_bits` bits.

    Exact: when the bits are dealt into more than max_bits bands, two hashes within max_bits agree on a whole band (the
    pigeonhole principle), so only hashes that share a band are compared. Equal hashes are merged first, and pairs that
    are in one group already are not compared again.

    Args:
        hashes: uint8 N×32.
        max_bits: 0 to 255.

    Returns:
        int64 N: of each hash the group, named by the number of the group's first row.
    """
    if len(hashes) == 0:
        return np.empty(0, np.int64)
    unique, inverse = np.unique(hashes, axis=0, return_inverse=True)
    group = np.arange(len(unique))
    bands = max(4, max_bits + 1)  # four: a band fits into 64 bits
    for band in range(bands if max_bits else 0):
        group = _linked_by_band(unique.view(np.uint64), _band_keys(unique, band, bands), group, max_bits)
    _, first, place = np.unique(group[inverse.ravel()], return_index=True, return_inverse=True)
    return first[place.ravel()]


def _band_keys(hashes: np.ndarray, band: int, bands: int) -> np.ndarray:
    """Every `bands`th bit from `band` on, as one uint64 a hash: each band gets coarse and fine frequencies alike."""
    keys = np.zeros((len(hashes), 8), np.uint8)
    for start in range(0, len(hashes), _BLOCK):
        packed = np.packbits(np.unpackbits(hashes[start : start + _BLOCK], axis=1)[:, band::bands], axis=1)
        keys[start : start + _BLOCK, : packed.shape[1]] = packed
    return keys.view(np.uint64).ravel()


def _linked_by_band(words: np.ndarray, keys: np.ndarray, group: np.ndarray, max_bits: int) -> np.ndarray:
    """The groups after all rows of equal key that differ in at most max_bits have been linked.

    Sorted by key, a row's partners stand right behind it: all pairs at distance 1 are compared at once, then 2, and so
    on. At each doubling, groups are merged and runs of one key that have become one group are left alone.
    """
    order = np.argsort(keys, kind="stable")
    run = np.flatnonzero(np.diff(keys[order], prepend=keys[order[0]] + np.uint64(1)))  # where each key begins
    lengths = np.diff(run, append=len(order))
    last = np.repeat(run + lengths - 1, lengths)
    words = words[order]
    rows, step, edges = np.arange(len(order)), 1, list[np.ndarray]()
    while True:
        if step & (step - 1) == 0 or sum(pair.shape[1] for pair in edges) > _MANY:
            group, edges = _merge(group, edges), []
            here = group[order]
            mixed = np.repeat(np.minimum.reduceat(here, run) != np.maximum.reduceat(here, run), lengths)
            rows = rows[mixed[rows]]
        rows = rows[rows + step <= last[rows]]
        if not len(rows):
            return _merge(group, edges)
        pair = rows[here[rows] != here[rows + step]]
        differing = np.bitwise_count(words[pair] ^ words[pair + step]).sum(axis=1, dtype=np.int64)
        pair = pair[differing <= max_bits]
        edges.append(order[np.stack([pair, pair + step])])
        step += 1


def _merge(group: np.ndarray, edges: list[np.ndarray]) -> np.ndarray:
    if not any(pair.shape[1] for pair in edges):
        return group
    a, b = group[np.concatenate(edges, axis=1)]
    graph = coo_matrix((np.ones(len(a), np.int8), (a, b)), shape=(len(group), len(group)))
    labels: np.ndarray = connected_components(graph, directed=False)[1]
    return labels[group]
