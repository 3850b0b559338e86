"""The rules that drop a face: each on hand-made rows, and on LFW's own copies and look-alikes."""

import io
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from facerep.crop.stage import crop
from facerep.faces.roles import stable_order
from facerep.presets import params_with
from facerep.select.duplicates import near_duplicate_groups
from facerep.select.rules import RULES, find_victims
from facerep.select.sheets import draw_sheets
from facerep.select.stage import select
from tests.support.faces import INDEX_SCHEMA
from tests.support.index_tables import Row, bits_apart, face, people, rules
from tests.support.paths import DATA, ROOT
from tests.support.pictures import archive, encoded, picture, settings


def victims(rows: list[Row], **changes: Any) -> dict[str, list[tuple[str, float, str | None]]]:
    """By rule: key, value, and the twin's key."""
    table = pa.Table.from_pylist(rows, schema=INDEX_SCHEMA)
    keys = [row["key"] for row in rows]
    found = find_victims(table, stable_order(keys, 0), rules(**changes))
    assert [v.rule for v in found] == list(RULES)
    return {
        v.rule: [
            (keys[i], value, keys[twin] if twin >= 0 else None)
            for i, value, twin in zip(v.rows, v.values, v.twins, strict=True)
        ]
        for v in found
        if len(v.rows)
    }


def test_only_copies_are_dropped() -> None:
    """However small or blurred a face is, and whether or not one was found."""
    rows = people("train", 1, 4)
    rows[0] |= {"side": 3}
    rows[1] |= {"sharpness": 0.0}
    rows[2] |= {"found": "center"}
    assert victims(rows) == {}


def test_copies_by_their_own_thresholds() -> None:
    rows = [
        face("all", "a", "1", "seen", 0),
        face("all", "a", "2", "seen", 3),
        face("all", "b", "1", "seen too", 0),
        face("all", "c", "1", "seen too", 5),
        face("all", "d", "1", "alone", 0),
    ]
    first, second = sorted(
        rows[:2], key=lambda row: stable_order([row["key"] for row in rows], 0).tolist().index(rows.index(row))
    )
    within = [(second["key"], 3.0, first["key"])]
    across = [("all/b/1", 5.0, "all/c/1"), ("all/c/1", 5.0, "all/b/1")]
    assert victims(rows, near_duplicate_bits=3, shared_photograph_bits=5) == {
        "duplicates_across_identities": across,
        "duplicates_within_identity": within,
    }
    assert victims(rows, near_duplicate_bits=2, shared_photograph_bits=5) == {"duplicates_across_identities": across}
    assert victims(rows, near_duplicate_bits=3, shared_photograph_bits=4) == {"duplicates_within_identity": within}


def test_a_photograph_falls_to_the_first_rule_alone() -> None:
    """Twice under one name and once under another: all three go for that, and none is left to be a near-duplicate."""
    rows = [face("all", "a", "1", "seen"), face("all", "a", "2", "seen"), face("all", "b", "1", "seen")]
    found = victims(rows)
    assert set(found) == {"duplicates_across_identities"}
    assert [key for key, *_ in found["duplicates_across_identities"]] == ["all/a/1", "all/a/2", "all/b/1"]


def test_large_sets_are_searched_by_bands_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies whose flips lie anywhere, far fewer than those of the threshold, and half a million pairs of strangers."""
    random = np.random.default_rng(0)
    hashes = random.integers(0, 256, (1000, 32), dtype=np.uint8)
    for copy in range(500):
        bits = np.zeros(256, np.uint8)
        bits[random.choice(256, 8, replace=False)] = 1
        hashes[500 + copy] = hashes[copy] ^ np.packbits(bits)
    every = near_duplicate_groups(hashes, 40)
    assert every.tolist() == [*range(500), *range(500)]
    monkeypatch.setattr("facerep.select.duplicates.ALL_PAIRS", 0)
    assert (near_duplicate_groups(hashes, 40) != every).sum() <= 15, (
        "of a hundred copies 8 bits away three may be missed"
    )


def test_the_list_and_the_sheets_show_whom_a_rule_dropped(tmp_path: Path, own_scratch: Path) -> None:
    names = [f"lfw/{who}/{n}.png" for who in "abcd" for n in range(5)]
    members = {name: encoded(picture(n)) for n, name in enumerate(names)}
    members["lfw/a/again.png"] = encoded(picture(0).resize((60, 80)))
    members["lfw/d/of a.png"] = encoded(picture(1))
    faces = tmp_path / "faces"
    crop(settings(method="center"), [archive(tmp_path / "a.tar", members)], faces, workers=1)
    chosen = rules(roles="by_count", min_labelled=3, near_duplicate_bits=16, shared_photograph_bits=16)
    counts = select(chosen, 0, faces / "index.parquet", tmp_path / "selection.parquet", tmp_path / "dropped.parquet")
    found = {row["key"]: row for row in pq.read_table(tmp_path / "dropped.parquet").to_pylist()}
    within = found.keys() & {"all/a/0", "all/a/again"}
    assert found.keys() == {"all/a/1", "all/d/of a", *within} and len(within) == 1
    assert (found["all/a/1"]["twin"], found["all/d/of a"]["twin"]) == ("all/d/of a", "all/a/1")
    by_rule = Counter(row["rule"] for row in found.values())
    assert {rule: counts["dropped"][rule] for rule in RULES} == {rule: by_rule[rule] for rule in RULES}
    for folder in ("one", "two"):
        draw_sheets(tmp_path / "dropped.parquet", faces, tmp_path / folder)
    assert sorted(path.stem for path in (tmp_path / "one").iterdir()) == sorted(RULES)
    for rule in RULES:
        assert (tmp_path / "one" / f"{rule}.png").read_bytes() == (tmp_path / "two" / f"{rule}.png").read_bytes()
    heights = {rule: Image.open(tmp_path / "one" / f"{rule}.png").height for rule in RULES}
    assert heights["duplicates_unlabelled"] < 40 < heights["duplicates_within_identity"]
    sheet = Image.open(tmp_path / "one" / "duplicates_within_identity.png").convert("RGB")
    victim, twin = (np.asarray(sheet)[30:130, left : left + 100].astype(float) for left in (5, 117))
    assert victim.std() > 20, "there is a face"
    assert np.abs(victim - twin).mean() < 0.2 * victim.std(), "and beside it the one that stays"


# LFW's own, where they are


CHANGES = {
    "as it is": lambda image: image,
    "re-encoded at quality 30": lambda image: Image.open(io.BytesIO(encoded(image, "JPEG", quality=30))),
    "half the size": lambda image: image.resize((125, 125), Image.Resampling.LANCZOS),
    "a fourth of the size": lambda image: image.resize((64, 64), Image.Resampling.BILINEAR),
    "twice the size": lambda image: image.resize((500, 500), Image.Resampling.BICUBIC),
    "grey": lambda image: image.convert("L"),
    "1 % cut off each side": lambda image: image.crop((2, 2, 248, 248)),
    "2 % cut off the left and the top": lambda image: image.crop((5, 5, 250, 250)),
}


@pytest.fixture(scope="module")
def lfw() -> list[tuple[str, Image.Image]]:
    """The two photographs under two names each, and every fourth of the others."""
    if not (DATA / "lfw-min2.tgz").is_file():
        pytest.skip("LFW is not here")
    found = []
    for name, every in (("lfw-duplicates.tgz", 1), ("lfw-min2.tgz", 4)):
        with tarfile.open(DATA / name) as tar:
            files = [member for member in tar if member.isfile()]
            for member in files[::every]:
                data = tar.extractfile(member).read()  # type: ignore[union-attr]
                found.append((member.name, Image.open(io.BytesIO(data)).convert("RGB")))
    return found


@pytest.mark.parametrize("change", CHANGES)
def test_lfws_photographs_under_two_names_are_found_and_look_alikes_are_not(
    lfw: list[tuple[str, Image.Image]], change: str
) -> None:
    from facerep.crop.phash import perceptual_hash

    rows = []
    for number, (name, image) in enumerate(lfw):
        _, identity, file = name.split("/")
        changed = CHANGES[change](image) if number in (0, 2) else image  # one of each two
        row = face("all", identity, file.removesuffix(".jpg"))
        rows.append(row | {"phash": perceptual_hash(changed.convert("RGB"))})
    keys = [row["key"] for row in rows[:4]]
    chosen = params_with("lfw", ROOT / "params.yaml", ROOT / "presets").select
    found = victims(rows, **{key: getattr(chosen, key) for key in ("near_duplicate_bits", "shared_photograph_bits")})
    twins = {key: twin for key, _, twin in found["duplicates_across_identities"]}
    assert twins == {keys[0]: keys[1], keys[1]: keys[0], keys[2]: keys[3], keys[3]: keys[2]}
    assert bits_apart(rows[0], rows[1]) <= chosen.shared_photograph_bits
