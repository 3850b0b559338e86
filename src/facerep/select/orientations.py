"""The bits of the perceptual hash (facerep.crop.phash) of a picture that is turned or mirrored, from its upright hash.

To mirror a picture changes the sign of every second coefficient of its DCT, and to transpose it swaps their two
frequencies. A bit says whether a coefficient lies above the median, which is near 0: so the hash of a turned picture has
the same bits, in other places and some of them inverted. The coefficients between 0 and the median come out wrong. Of
LFW's photographs, turned in all ways and compressed or halved, these are 6 bits in the median, at most 16 in 97 of 100, and
hardly ever more than 32.
"""

import numpy as np

# the bits by the parity of their frequencies u, v (of rows and columns, from 1): to mirror inverts a whole word, or nothing
ODD_ODD, EVEN_ODD, ODD_EVEN, EVEN_EVEN = range(4)
_COLUMNS = [  # of a byte the four columns of odd v, and those of even v; the first in the lowest bit
    np.array([sum((byte >> (7 - offset - 2 * i) & 1) << i for i in range(4)) for byte in range(256)], np.uint8)
    for offset in (0, 1)
]
_SWAPS = ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0))  # transpose 8×8 bits

_SLACK = 32  # bits by which the hash of a turned copy may be off


def turned_threshold(max_bits: int) -> int:
    """In how many bits turned copies may differ where upright ones may differ in `max_bits`.

    Twice as many up to 32: of turned copies 3 in 100 are more than 16 bits away, 1 in 2,500 more than 32. Tight faces that
    are not each other mirrored are 42 bits apart or more, LFW's photographs 54. 0 stays 0: no turned copies.
    """
    return max(max_bits, min(2 * max_bits, _SLACK))


def by_parity(hashes: np.ndarray) -> np.ndarray:
    """uint64 4×N: the bits of hashes, uint8 N×32, as four squares of 8×8 bits, by the parity of u and v."""
    squares = []
    for columns in _COLUMNS:
        halves = columns[hashes]
        rows = halves[:, 0::2] | halves[:, 1::2] << np.uint8(4)
        squares += [rows[:, 0::2], rows[:, 1::2]]
    return np.stack([np.ascontiguousarray(square).view("<u8")[:, 0] for square in squares])


def transposed(words: np.ndarray) -> np.ndarray:
    """The same of pictures whose rows have become columns."""
    words = words[[ODD_ODD, ODD_EVEN, EVEN_ODD, EVEN_EVEN]]
    for shift, mask in _SWAPS:
        moved = (words ^ words >> np.uint64(shift)) & np.uint64(mask)
        words ^= moved ^ moved << np.uint64(shift)
    return words


def turned_bits(words: np.ndarray, others: np.ndarray, others_transposed: np.ndarray) -> np.ndarray:
    """int16: in how many bits the words differ from the others', in the best of the seven orientations that are not upright.

    Four counts give the distances in four orientations, since an inverted word differs in 64 − n bits.
    """
    both, columns, rows, rest = _centred(words, others)
    mirrored = np.minimum(rows - (both + columns), -rows - np.abs(both - columns)) + rest
    both, columns, rows, rest = _centred(words, others_transposed)
    turned = np.minimum(rows - np.abs(both + columns), -rows - np.abs(both - columns)) + rest
    return np.minimum(mirrored, turned)


def _centred(words: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """In how many bits more than 32 the four words differ; the last with what the sum of all needs."""
    # int8 holds every sum of the first three
    one, two, three = (np.bitwise_count(words[i] ^ others[i]).view(np.int8) - np.int8(32) for i in range(3))
    return one, two, three, np.bitwise_count(words[3] ^ others[3]).astype(np.int16) + np.int16(96)
