"""Groups of photographs that look the same, by their perceptual hashes (facerep.crop.phash)."""

from collections.abc import Iterator

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

_SIDE = 16  # of the square of coefficients that give the hash its bits
ALL_PAIRS = 2**14  # so many are compared all with all
_ROWS = 64  # at once
_ROBUST, _BANDS, _BAND_BITS = 64, 20, 24  # lowest frequencies; samples of them; bits of a sample
_MANY = 2**20  # edges after which groups are merged, so that a crowd of look-alikes does not fill the memory


def near_duplicate_groups(hashes: np.ndarray, max_bits: int, among: np.ndarray | None = None) -> np.ndarray:
    """Groups of hashes that are linked by steps of at most `max_bits` bits.

    Up to 16,384 different hashes, and within `among`, all pairs are compared. Beyond that, only those that agree on all of
    24 bits: BANDS random samples of the 64 lowest frequencies, which a re-encode, a smaller size or a small crop
    hardly touches (locality-sensitive hashing: Indyk and Motwani, "Approximate nearest neighbors", STOC 1998). Of LFW's
    photographs that are within 40 bits this finds all that were re-encoded or made smaller, 39 of 40 with 1 % cropped off
    each side, and 4 of 5 with 2 %.

    Args:
        hashes: uint8 N×32.
        max_bits: 0 to 255.
        among: int64 N; only hashes of the same number are linked. None: all.

    Returns:
        int64 N: of each hash the group, named by the number of the group's first row.
    """
    if len(hashes) == 0:
        return np.empty(0, np.int64)
    words = np.ascontiguousarray(hashes).view(np.uint64)
    # within few no crowd of equal ones is worth a sort
    first, inverse = _different(words) if among is None else (np.arange(len(words)), np.arange(len(words)))
    words, group = words[first], np.arange(len(first))
    if among is not None:
        group = _linked_by_band(words, among[first], group, max_bits)
    elif max_bits and len(words) <= ALL_PAIRS:
        group = _linked_by_comparing_all(words, group, max_bits)
    elif max_bits:
        for keys in _band_keys(words.view(np.uint8)):
            group = _linked_by_band(words, keys, group, max_bits)
    _, first, place = np.unique(group[inverse], return_index=True, return_inverse=True)
    return first[place]


def _different(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first row of each different hash, and for each row which of these it is.

    By a 64-bit mixture, which is sorted ten times faster than 256 bits; should two ever share one, by all bits.
    """
    odd = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], np.uint64)
    mixture = ((words ^ (words >> np.uint64(29))) * odd).sum(axis=1, dtype=np.uint64)
    _, first, inverse = np.unique(mixture, return_index=True, return_inverse=True)
    if not np.array_equal(words[first][inverse], words):
        _, first, inverse = np.unique(words, axis=0, return_index=True, return_inverse=True)
    return first, inverse.ravel()


def _band_keys(hashes: np.ndarray) -> Iterator[np.ndarray]:
    """_BANDS times _BAND_BITS of the lowest frequencies of each hash, drawn anew, as one uint32; the same in every run."""
    frequency = np.add.outer(np.arange(_SIDE), np.arange(_SIDE)).ravel()
    lowest = np.argsort(frequency, kind="stable")[:_ROBUST]
    columns = [np.ascontiguousarray(hashes[:, bit // 8]) >> np.uint8(7 - bit % 8) & np.uint8(1) for bit in lowest]
    random = np.random.default_rng(0)
    for _ in range(_BANDS):
        keys = np.zeros(len(hashes), np.uint32)
        for place in random.choice(_ROBUST, _BAND_BITS, replace=False):
            keys = (keys << np.uint32(1)) | columns[place]
        yield keys


def _linked_by_comparing_all(words: np.ndarray, group: np.ndarray, max_bits: int) -> np.ndarray:
    """The groups after all rows that differ in at most max_bits have been linked."""
    edges: list[np.ndarray] = []
    for start in range(0, len(words), _ROWS):
        block = words[start : start + _ROWS]
        differing = np.zeros((len(block), len(words) - start), np.uint16)
        for word in range(words.shape[1]):
            differing += np.bitwise_count(block[:, word, None] ^ words[None, start:, word])
        pair = np.stack(np.nonzero(differing <= max_bits)) + start
        edges.append(pair[:, pair[0] < pair[1]])
        if sum(pair.shape[1] for pair in edges) > _MANY:
            group, edges = _merge(group, edges), []
    return _merge(group, edges)


def _linked_by_band(words: np.ndarray, keys: np.ndarray, group: np.ndarray, max_bits: int) -> np.ndarray:
    """The groups after all rows of equal key that differ in at most max_bits have been linked.

    Sorted by key, a row's partners stand right behind it: all pairs at distance 1 are compared at once, then 2, and so
    on. At each doubling, groups are merged and runs of one key that have become one group are left alone.
    """
    order = np.argsort(keys)
    keys = keys[order]
    same = keys[1:] == keys[:-1]
    shared = np.append(same, False) | np.insert(same, 0, False)
    if not shared.any():
        return group
    order, keys = order[shared], keys[shared]  # who is alone with a key has no partner
    run = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))  # where each key begins
    lengths = np.diff(run, append=len(order))
    last = np.repeat(run + lengths - 1, lengths)
    columns = [np.ascontiguousarray(column) for column in words[order].T]
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
        if 4 * len(rows) > len(order):  # most have a partner there: all are compared with theirs, without a gather
            differing = sum(np.bitwise_count(c[:-step] ^ c[step:]).astype(np.uint16) for c in columns)
            pair = rows[differing[rows] <= max_bits]
        else:
            pair = rows[here[rows] != here[rows + step]]
            differing = sum(np.bitwise_count(c[pair] ^ c[pair + step]).astype(np.uint16) for c in columns)
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
