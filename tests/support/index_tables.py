"""Index tables made by hand for the tests of selection, and the slow plain version that says who gets which role."""

import hashlib
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from facerep.core.errors import FacerepError
from facerep.params import Select
from facerep.select.stage import select
from tests.support.faces import INDEX_SCHEMA
from tests.support.plain import ORIENTATIONS, hamming, turned_hash

Row = dict[str, Any]
LABELLED = ("train", "val", "test")


def rules(**changes: Any) -> Select:
    """Settings that take all there is, changed as asked."""
    given_rules: dict[str, Any] = {
        "roles": "by_split",
        "per_identity": 60,
        "min_labelled": 4,
        "val_fraction": 0.2,
        "test_fraction": 0.3,
        "near_duplicate_bits": 6,
        "shared_photograph_bits": 6,
        "exclude": "exclude.txt",
    }
    return Select(**(given_rules | changes))


def face(
    split: str, identity: str, stem: str, photograph: str | None = None, flipped: int = 0, turned: str | None = None
) -> Row:
    """A row of the index; `photograph` names what is seen, `flipped` how many bits of its hash differ.

    `turned` is one of ORIENTATIONS, None: upright.
    """
    seen = hashlib.blake2b((photograph or f"{split}/{identity}/{stem}").encode(), digest_size=32).digest()
    phash = (int.from_bytes(seen) ^ ((1 << flipped) - 1)).to_bytes(32)
    phash = turned_hash(phash, turned) if turned else phash
    key = f"{split}/{identity}/{stem}"
    return {
        "key": key,
        "identity": identity,
        "split": split,
        "shard": "shard-000000.tar",
        "offset": int.from_bytes(seen[:3]),
        "length": 100,
        "sha256": hashlib.sha256(phash).hexdigest(),
        "phash": phash,
        "sharpness": 0.5,
        "side": 100,
        "found": "box",
    }


def people(split: str, count: int, photographs: int, first: int = 0) -> list[Row]:
    return [face(split, f"{split}{i:02d}", f"{j:03d}") for i in range(first, first + count) for j in range(photographs)]


class Selected(NamedTuple):
    """What a run chose."""

    rows: list[Row]
    counts: dict[str, Any]
    data: bytes
    pretraining: bytes  # of the other file

    def keys(self, *roles: str) -> set[str]:
        return {row["key"] for row in self.rows if not roles or row["role"] in roles}


def run(index: list[Row], settings: Select, seed: int = 0, **more: Any) -> Selected:
    """`more` goes to `select`."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "index.parquet", Path(folder) / "selection.parquet"
        pq.write_table(pa.Table.from_pylist(index, schema=INDEX_SCHEMA), source)
        try:
            counts = select(settings, seed, source, out, **more)
        except FacerepError:
            assert not out.exists()
            raise
        pretraining = (Path(folder) / "pretraining.parquet").read_bytes()
        return Selected(pq.read_table(out).to_pylist(), counts, out.read_bytes(), pretraining)


def bits_apart(a: Row, b: Row) -> int:
    return (int.from_bytes(a["phash"]) ^ int.from_bytes(b["phash"])).bit_count()


def bits_apart_turned(a: Row, b: Row) -> int:
    """In the best of the seven orientations that are not upright."""
    return min(hamming(a["phash"], turned_hash(b["phash"], how)) for how in ORIENTATIONS)


def slow_roles(index: list[Row], chosen: Select, seed: int) -> dict[str, str]:
    """Which role each key gets, written from the words of the docstring, with lists and loops alone."""

    def hashed(rows: list[Row], number: int) -> list[Row]:
        return sorted(rows, key=lambda row: hashlib.blake2b(f"{number}/{row['key']}".encode(), digest_size=16).digest())

    shuffled = hashed(index, 0)

    def alike(rows: list[Row], bits: int) -> list[list[Row]]:
        """Photographs that look the same, and what looks the same as those."""
        groups: list[list[Row]] = []
        for row in rows:
            near = [g for g in groups if any(bits_apart(row, other) <= bits for other in g)]
            groups = [g for g in groups if g not in near] + [[*(r for g in near for r in g), row]]
        return groups

    kept = []
    for group in alike(shuffled, chosen.shared_photograph_bits):
        named = [row for row in group if row["split"] != "unlabelled"]
        if len({row["identity"] for row in named}) <= 1:
            kept += [row["key"] for row in named or [min(group, key=shuffled.index)]]
    for who in {row["identity"] for row in shuffled}:
        own = [
            row for row in shuffled if row["identity"] == who and row["split"] != "unlabelled" and row["key"] in kept
        ]
        for group in alike(own, chosen.near_duplicate_bits):
            first = min(group, key=shuffled.index)
            kept = [key for key in kept if key == first["key"] or key not in [row["key"] for row in group]]
    left = _without_turned_copies([row for row in shuffled if row["key"] in kept], chosen)

    splits = {"by_split": ["test"], "by_count": ["all", "train", "test"], "by_folder": ["all", "train", "test"]}
    counted = [row for row in left if row["split"] in splits[chosen.roles]]
    photographs: dict[str, int] = defaultdict(int)
    for row in counted:
        photographs[row["identity"]] += 1
    people_of_the_task = {who for who, n in photographs.items() if n >= chosen.min_labelled}

    roles: dict[str, str] = {}
    for who in sorted({row["identity"] for row in left}):
        own = [row for row in left if row["identity"] == who]
        if who in people_of_the_task:
            own = hashed([row for row in own if row in counted], seed)[: chosen.per_identity]
            tests = max(1, round(chosen.test_fraction * len(own)))
            vals = max(1, round(chosen.val_fraction * len(own)))
            roles |= {row["key"]: "test" for row in own[:tests]}
            roles |= {row["key"]: "val" for row in own[tests : tests + vals]}
            roles |= {row["key"]: "train" for row in own[tests + vals :]}
        else:
            kept_out = {"by_split": ["test"], "by_count": [], "by_folder": ["all", "train", "test"]}
            own = [row for row in own if row["split"] not in kept_out[chosen.roles]]
            roles |= {row["key"]: "pretrain" for row in own[: chosen.per_identity]}
    return roles


def _without_turned_copies(rows: list[Row], chosen: Select) -> list[Row]:
    """Within a labelled identity the first of such copies stays; of the others those that are none of a labelled one."""

    def allowed(bits: int) -> int:
        return bits if bits >= 32 else min(32, 2 * bits)

    def labelled(row: Row, among: list[Row]) -> bool:
        if chosen.roles == "by_split":
            return row["split"] == "test"
        named = [other for other in among if other["split"] != "unlabelled"]
        alike = sum(other["identity"] == row["identity"] for other in named)
        return row in named and (chosen.roles == "by_folder" or alike >= chosen.min_labelled)

    kept: list[Row] = []
    for row in rows:
        own = [other for other in kept if other["identity"] == row["identity"] and labelled(other, rows)]
        near = [other for other in own if bits_apart_turned(row, other) <= allowed(chosen.near_duplicate_bits)]
        if not (near and labelled(row, rows) and chosen.near_duplicate_bits):
            kept.append(row)
    known = [row for row in kept if labelled(row, kept)]
    bits = allowed(chosen.shared_photograph_bits)
    return [
        row for row in kept if row in known or not bits or all(bits_apart_turned(row, other) > bits for other in known)
    ]
