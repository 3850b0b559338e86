"""Which faces are not worth using, by rules that are parameters of `select`: each victim with the rule and what it measured.

- duplicates_across_identities: the same photograph under two labelled identities, within `shared_photograph_bits` of
  their perceptual hashes. Nobody can say whose it is: all of them go;
- duplicates_unlabelled: such a photograph among the unlabelled ones, which stays where its label is known, or once;
- duplicates_within_identity: a near-duplicate within one identity, by `near_duplicate_bits`; the first by hash stays;
- turned_copies: a photograph for pretraining that is a labelled one turned or mirrored, by `shared_photograph_bits`; and
  within one labelled identity such a copy of another, by `near_duplicate_bits`: the first by hash stays. Not across
  labelled identities, since there it may be another thing: b and d, 6 and 9, the left and the right hand.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facerep.core.files import atomic
from facerep.faces.shards import UNLABELLED
from facerep.params import Select
from facerep.select.duplicates import near_duplicate_groups
from facerep.select.excluded import EXCLUDED
from facerep.select.orientations import by_parity, turned_threshold
from facerep.select.turned import turned_pairs

RULES = (
    "duplicates_across_identities",
    "duplicates_unlabelled",
    "duplicates_within_identity",
    "turned_copies",
)


class Victims(NamedTuple):
    """Rows of the index that a rule drops; each with what was measured, and its twin's row."""

    rule: str
    rows: np.ndarray  # int64 N, rising
    values: np.ndarray  # float64 N: in how many bits the two hashes differ; of turned copies, once turned back
    twins: np.ndarray  # int64 N; of excluded photographs -1, and nothing was measured


def find_victims(
    table: pa.Table, order: np.ndarray, settings: Select, excluded: np.ndarray | None = None
) -> list[Victims]:
    """Whom each rule of RULES drops, in that order; a row falls to the first rule alone.

    Args:
        table: the index.
        order: int64 N, the rows in stable order: of duplicates the first stays.
        excluded: int64 N, rows that are gone before, so that they are nobody's twins; they come first.
    """
    left = np.ones(table.num_rows, bool)
    victims: list[Victims] = []

    def drop(rule: str, rows: np.ndarray, values: np.ndarray, twins: np.ndarray) -> None:
        victims.append(Victims(rule, rows, values, twins))
        left[rows] = False

    if excluded is not None and len(excluded):
        drop(EXCLUDED, excluded, np.full(len(excluded), np.nan), np.full(len(excluded), -1, np.int64))
    copies = _Copies(table, order)
    for rule, (rows, twins) in copies.shared(left, settings.shared_photograph_bits).items():
        drop(rule, rows, copies.bits_between(rows, twins), twins)
    rows, twins = copies.near(left, settings.near_duplicate_bits)
    drop("duplicates_within_identity", rows, copies.bits_between(rows, twins), twins)
    drop("turned_copies", *copies.turned(left, settings))
    return victims


class _Copies:
    """Photographs that look the same."""

    def __init__(self, table: pa.Table, order: np.ndarray) -> None:
        self.hashes = _hashes(table)
        self.identity = table["identity"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
        self.unlabelled, self.in_test = (pc.equal(table["split"], name).to_numpy() for name in (UNLABELLED, "test"))
        self.place = np.empty(len(order), np.int64)  # of each row in stable order
        self.place[order] = np.arange(len(order))

    def shared(self, left: np.ndarray, max_bits: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Rows under several labelled identities, and unlabelled ones that are there already; with a twin for each."""
        across: list[tuple[int, int]] = []
        unlabelled: list[tuple[int, int]] = []
        for rows in self._groups(np.flatnonzero(left), max_bits, None):
            known = [i for i in rows if not self.unlabelled[i]]
            if len({self.identity[i] for i in known}) > 1:
                across += [(i, next(j for j in known if self.identity[j] != self.identity[i])) for i in known]
                across += [(i, known[0]) for i in rows if self.unlabelled[i]]
            else:
                stays = known[0] if known else rows[0]
                unlabelled += [(i, stays) for i in rows if self.unlabelled[i] and i != stays]
        return {"duplicates_across_identities": _sorted(across), "duplicates_unlabelled": _sorted(unlabelled)}

    def near(self, left: np.ndarray, max_bits: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each identity's photographs that look the same all but the first, and which that is."""
        rows = np.flatnonzero(left & ~self.unlabelled)
        groups = self._groups(rows, max_bits, self.identity[rows])
        return _sorted([(i, group[0]) for group in groups for i in group[1:]])

    def turned(self, left: np.ndarray, settings: Select) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Turned or mirrored copies, in how many bits they differ from their twins, and these."""
        words, left = by_parity(self.hashes), left.copy()
        pairs = [(row, bits, twin) for row, bits, twin in self._turned_within(words, left, settings)]
        left[[row for row, *_ in pairs]] = False
        pairs += self._turned_for_pretraining(words, left, settings)
        table = np.array(sorted(pairs), np.int64).reshape(-1, 3)
        return table[:, 0], table[:, 1].astype(np.float64), table[:, 2]

    def _turned_within(self, words: np.ndarray, left: np.ndarray, settings: Select) -> Iterator[tuple[int, int, int]]:
        """Of each labelled identity's photographs those that are another one turned; of these the first stays."""
        max_bits = turned_threshold(settings.near_duplicate_bits)
        rows = np.flatnonzero(left & self._may_be_labelled(left, settings)) if max_bits else np.empty(0, np.int64)
        rows = rows[np.lexsort((self.place[rows], self.identity[rows]))]
        for own in np.split(rows, np.flatnonzero(np.diff(self.identity[rows])) + 1):
            gone: set[int] = set()
            for i, j, bits in zip(*turned_pairs(words[:, own], words[:, own], max_bits), strict=True):
                if i < j and not {i, j} & gone:
                    gone.add(j)
                    yield own[j], bits, own[i]

    def _turned_for_pretraining(
        self, words: np.ndarray, left: np.ndarray, settings: Select
    ) -> Iterator[tuple[int, int, int]]:
        """Photographs without a role in the labelled task that are one with such a role turned: the nearest is the twin."""
        max_bits = turned_threshold(settings.shared_photograph_bits)
        if not max_bits:
            return
        labelled = self._may_be_labelled(left, settings)
        rows, known = np.flatnonzero(left & ~labelled), np.flatnonzero(left & labelled)
        row, twin, bits = turned_pairs(words[:, rows], words[:, known], max_bits)
        order = np.lexsort((self.place[known[twin]], bits, row))
        _, first = np.unique(row[order], return_index=True)
        best = order[first]
        yield from zip(rows[row[best]], bits[best], known[twin[best]], strict=True)

    def _may_be_labelled(self, left: np.ndarray, settings: Select) -> np.ndarray:
        """Whether a photograph belongs to the labelled task, or would if its identity had enough of them."""
        if settings.roles == "by_split":
            return self.in_test
        if settings.roles == "by_folder":
            return ~self.unlabelled
        counts = np.bincount(self.identity[left & ~self.unlabelled], minlength=self.identity.max(initial=-1) + 1)
        return ~self.unlabelled & (counts >= settings.min_labelled)[self.identity]

    def bits_between(self, rows: np.ndarray, twins: np.ndarray) -> np.ndarray:
        """In how many bits the hashes differ."""
        bits: np.ndarray = np.bitwise_count(self.hashes[rows] ^ self.hashes[twins]).sum(axis=1).astype(np.float64)
        return bits

    def _groups(self, rows: np.ndarray, max_bits: int, among: np.ndarray | None) -> list[list[int]]:
        """The groups of several rows, each in stable order."""
        group = near_duplicate_groups(self.hashes[rows], max_bits, among)
        several = np.flatnonzero(np.bincount(group, minlength=1)[group] > 1)
        several = several[np.lexsort((self.place[rows[several]], group[several]))]
        starts = np.flatnonzero(np.diff(group[several], prepend=-1))
        return [part.tolist() for part in np.split(rows[several], starts[1:])] if len(several) else []


def _sorted(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _hashes(table: pa.Table) -> np.ndarray:
    """uint8 N×32, straight from the column's own memory."""
    column = table["phash"].combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    flat = np.frombuffer(column.buffers()[1], np.uint8)
    return flat.reshape(-1, 32)[column.offset : column.offset + len(column)]


def write_victims(table: pa.Table, victims: list[Victims], out: Path) -> None:
    """dropped.parquet: key, identity, rule, value, twin (a key), and where the face lies; by rule and key.

    Of excluded photographs value and twin are null.
    """
    rows = np.concatenate([v.rows for v in victims])
    twins = np.concatenate([v.twins for v in victims])
    keys = table["key"].combine_chunks()
    picked = table.select(["key", "identity", "shard", "offset", "length"]).take(pa.array(rows))
    picked = picked.append_column("rule", pa.array([v.rule for v in victims for _ in v.rows], pa.string()))
    picked = picked.append_column("value", pa.array(np.concatenate([v.values for v in victims]), from_pandas=True))
    picked = picked.append_column("twin", keys.take(pa.array(twins, mask=twins < 0)))
    with atomic(out) as part:
        pq.write_table(picked.sort_by([("rule", "ascending"), ("key", "ascending")]), part, compression="zstd")
