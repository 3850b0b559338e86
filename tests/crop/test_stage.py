"""The crop stage as a whole, on small archives written here, against plain Pillow."""

import hashlib
import io
import re
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.signal import convolve2d

from facerep.core.errors import FacerepError
from facerep.crop.names import boxes_split, key_of
from facerep.crop.phash import perceptual_hash
from facerep.crop.stage import crop
from facerep.faces.shards import ShardReader, read_index
from tests.support.paths import DATA
from tests.support.pictures import archive, contents, encoded, picture, png, settings

pytestmark = pytest.mark.usefixtures("own_scratch")
BOXES = b'NAME_ID,X,Y,W,H\n"n1/0001_01",20,30,40,60\n"n2/0001_01",-9,-9,5,5\n'


def rows(out: Path) -> dict[str, dict]:
    return {row["key"]: row for row in read_index(out / "index.parquet").to_pylist()}


def face(out: Path, row: dict) -> np.ndarray:
    data = ShardReader(out).read(row["shard"], row["offset"], row["length"])
    assert hashlib.sha256(data).hexdigest() == row["sha256"]
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.mode) == ("JPEG", "RGB")
    return np.asarray(image).astype(int)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 photographs, more than two chunks, four of them broken."""
    members = {f"train/n{i % 7}/{i:04d}_01.png": encoded(picture(i)) for i in range(80)}
    for i in (3, 40, 41, 79):
        members[f"train/n{i % 7}/{i:04d}_01.png"] = b"broken"
    return archive(tmp_path_factory.mktemp("raw") / "many.tar", members)


def test_keys_of_names() -> None:
    assert key_of("train/n000001/0001_01.jpg") == "train/n000001/0001_01"
    assert key_of("VGGFace2/data/test/n000001/0001_01.JPEG") == "test/n000001/0001_01"
    assert key_of("lfw/Zico/Zico_0001.jpg") == "all/Zico/Zico_0001"
    assert key_of("Zico/Zico.front.0001.png") == "all/Zico/Zico_front_0001"
    for name in ("0001.jpg", "train/0001.jpg", "lfw/Zico/notes.txt", "lfw/Zico/.jpg", "lfw/jpg"):
        assert key_of(name) is None


def test_splits_of_box_files() -> None:
    assert boxes_split("bb_landmark/loose_bb_train.csv") == "train"
    assert boxes_split("loose_bb_test.head.csv") == "test"
    assert boxes_split("loose_bb.csv") == "all"
    for name in ("loose_landmark_test.csv", "identity_meta.csv", "loose_bb_test.csv.md5"):
        assert boxes_split(name) is None


@pytest.mark.parametrize("inside", [True, False])
def test_a_boxed_face_is_what_plain_pillow_cuts(tmp_path: Path, inside: bool) -> None:
    photo = picture(5, 200, 200)
    members = {"test/n1/0001_01.png": encoded(photo), "train/n1/0001_01.png": encoded(photo)}
    beside = tmp_path / "loose_bb_test.csv"
    beside.write_bytes(BOXES)
    sources = [archive(tmp_path / "a.tar", members | ({"bb/loose_bb_test.csv": BOXES} if inside else {}))]
    metrics = crop(settings(method="box"), sources if inside else [*sources, beside], tmp_path / "out", workers=1)
    assert metrics["found"] == {"box": 1, "detector": 0, "center": 1}
    # 20,30,40,60 extended by half and squared: 90×90 from (-5, 15), so five columns are repeated on the left
    padded = Image.fromarray(np.pad(np.asarray(photo), ((0, 0), (5, 0), (0, 0)), mode="edge")).crop((0, 15, 90, 105))
    small = padded.resize((32, 32), Image.Resampling.BICUBIC)
    row = rows(tmp_path / "out")["test/n1/0001_01"]
    assert np.abs(face(tmp_path / "out", row) - np.asarray(small)).mean() < 2  # JPEG
    assert row["found"] == "box"
    assert row["phash"] == perceptual_hash(photo)
    green = np.asarray(small)[:, :, 1].astype(float)
    laplacian = convolve2d(green, [[0, 1, 0], [1, -4, 1], [0, 1, 0]], boundary="symm", mode="same")
    assert row["sharpness"] == pytest.approx(laplacian.var(), rel=1e-3)  # resized by torch, a level beside Pillow's
    assert row["side"] == 90
    whole = photo.resize((32, 32), Image.Resampling.BICUBIC)  # the train split has no boxes: the centre
    assert np.abs(face(tmp_path / "out", rows(tmp_path / "out")["train/n1/0001_01"]) - np.asarray(whole)).mean() < 3


def test_a_box_without_area_in_the_photograph_counts_for_nothing(tmp_path: Path) -> None:
    members = {"test/n1/0001_01.png": encoded(picture(1)), "test/n2/0001_01.png": encoded(picture(2))}
    source = archive(tmp_path / "a.tar", members | {"loose_bb_test.csv": BOXES})
    crop(settings(), [source], tmp_path / "out", workers=1)
    assert [row["found"] for row in rows(tmp_path / "out").values()] == ["box", "center"]


def test_the_stored_picture_does_not_depend_on_the_container(tmp_path: Path) -> None:
    """EXIF-turned, with alpha, with a palette, PNG named .jpg, metadata: the same pixels are the same face."""
    photo = picture(3).quantize(64).convert("RGB")
    turned, exif = photo.transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90° clockwise
    kinds = {
        "plain.png": encoded(photo),
        "turned.png": encoded(turned, exif=exif),
        "alpha.PNG": encoded(photo.convert("RGBA")),
        "palette.gif": encoded(photo.quantize(64), "GIF"),
        "named.jpg": encoded(photo),
        "told.webp": encoded(photo, "WEBP", lossless=True, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"),
        "named.bmp.jpeg": encoded(photo, "BMP"),
        "rated.tiff": encoded(photo, "TIFF", dpi=(300, 300), description="me"),
    }
    source = archive(tmp_path / "a.tar", {f"lfw/Zico/{name}": data for name, data in kinds.items()})
    crop(settings(method="center"), [source], tmp_path / "out", workers=1)
    found = rows(tmp_path / "out")
    assert len(found) == len(kinds)
    assert len({row["sha256"] for row in found.values()}) == 1
    assert len({row["phash"] for row in found.values()}) == 1


def test_broken_photographs_are_listed_and_the_rest_is_cut(tmp_path: Path) -> None:
    good = encoded(picture(1))
    members = {
        "test/n1/a.b.png": good,
        "test/n1/a_b.png": good,
        "test/n1/bomb.png": png(60_000, 60_000),
        "test/n1/cut.png": good[: len(good) // 2],
        "test/n1/empty.jpg": b"",
        "test/n1/thin.png": encoded(Image.new("RGB", (9000, 4), "red")),
        "test/n1/z.png": encoded(picture(2)),
        "loose_bb_test.csv": b'NAME_ID,X,Y,W,H\n"n1/thin",0,0,9000,4\n',  # its square would have 81 million pixels
        "test/n1/notes.txt": b"",
    }
    source = archive(tmp_path / "a.tar", members)
    with pytest.raises(FacerepError, match=r"no face was found in any of 3 photographs.*crop\.method to center"):
        crop(settings(max_unreadable=0.9), [source], tmp_path / "out", workers=1)
    members["loose_bb_test.csv"] += b'"n1/z",10,10,50,50\n'
    metrics = crop(settings(max_unreadable=0.9), [archive(tmp_path / "a.tar", members)], tmp_path / "out", workers=1)
    assert metrics["photographs"] == 7
    assert metrics["faces"] == 3
    assert metrics["found"] == {"box": 1, "detector": 0, "center": 2}
    assert metrics["unreadable"]["count"] == 4
    reasons = {item["name"]: item["reason"] for item in metrics["unreadable"]["names"]}
    assert list(reasons) == [f"test/n1/{n}" for n in ("bomb.png", "cut.png", "empty.jpg", "thin.png")]
    assert reasons["test/n1/empty.jpg"] == "an empty file: copy it again"
    assert "max_megapixels" in reasons["test/n1/bomb.png"]
    assert reasons["test/n1/thin.png"] == "a face of 9000×9000 pixels in a photograph of 9000×4"
    assert list(rows(tmp_path / "out")) == ["test/n1/a·tar∕a·b·png", "test/n1/a·tar∕a_b·png", "test/n1/z"]
    classes = pq.read_table(tmp_path / "out" / "classes.parquet").to_pylist()
    assert classes == [{"split": "test", "identity": "n1", "found": 7, "cropped": 3, "unreadable": 4}]


def test_a_member_that_was_appended_again_is_told(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for seed in (1, 2):
            info, data = tarfile.TarInfo("all/n1/a.png"), encoded(picture(seed))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    metrics = crop(settings(method="center", max_unreadable=0.5), [tmp_path / "a.tar"], tmp_path / "out", workers=1)
    assert [item["reason"] for item in metrics["unreadable"]["names"]] == [
        "a second photograph with the key all/n1/a·tar∕all∕a·png"
    ]


def test_what_an_archive_cannot_give_is_listed_and_the_rest_is_cut(tmp_path: Path) -> None:
    link = tarfile.TarInfo("test/n1/b.png")
    link.type, link.linkname = tarfile.SYMTYPE, "a.png"
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for info, data in (
            (tarfile.TarInfo("test/n1/a.png"), encoded(picture(1))),
            (link, b""),
            (tarfile.TarInfo("../test/n1/c.png"), encoded(picture(2))),
            (tarfile.TarInfo("test/n1/d.png"), encoded(picture(3))),
            (tarfile.TarInfo("/etc/passwd"), b"nobody wants it"),
        ):
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    metrics = crop(settings(method="center", max_unreadable=0.5), [tmp_path / "a.tar"], tmp_path / "out", workers=1)
    assert list(rows(tmp_path / "out")) == ["test/n1/a", "test/n1/d"]
    assert (metrics["photographs"], metrics["faces"], metrics["passed_over"]) == (
        *(4, 2),
        [{"kind": "no suffix", "folder": "etc", "files": 1}],
    )
    assert metrics["unreadable"] == {
        "count": 2,
        "names": [
            {"key": "test/n1/b", "name": "test/n1/b.png", "reason": "is a link"},
            {"key": "test/n1/c", "name": "test/n1/c.png", "reason": "has a name that leads out of the archive"},
        ],
    }


def test_no_byte_depends_on_the_number_of_workers(tmp_path: Path, many: Path) -> None:
    one, two = (
        crop(settings(method="center", max_unreadable=0.05), [many], tmp_path / str(n), workers=n) for n in (1, 2)
    )
    assert one == two
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_metrics_shards_and_index_agree(tmp_path: Path, many: Path) -> None:
    metrics = crop(settings(method="center", max_unreadable=0.05), [many], tmp_path / "out", workers=2)
    index = read_index(tmp_path / "out" / "index.parquet").to_pylist()
    stored = []
    for path in sorted((tmp_path / "out").glob("*.tar")):
        with tarfile.open(path) as tar:
            stored += [(path.name, m.name, m.offset_data, m.size) for m in tar]
    assert stored == [(r["shard"], f"{r['key']}.jpg", r["offset"], r["length"]) for r in index]
    expected = [f"train/n{i % 7}/{i:04d}_01" for i in range(80) if i not in (3, 40, 41, 79)]
    assert [row["key"] for row in index] == expected
    assert metrics["photographs"] == 80
    assert metrics["faces"] == 76
    assert metrics["identities"] == 7
    assert metrics["splits"] == {"train": 76}
    assert metrics["shards"] == len({shard for shard, *_ in stored}) > 1
    assert metrics["bytes"] == sum(size for *_, size in stored)
    assert [item["name"] for item in metrics["unreadable"]["names"]] == [
        f"train/n{i % 7}/{i:04d}_01.png" for i in (3, 40, 41, 79)
    ]
    # WebDataset's own rule for a member's key: all before the first dot of the file's name
    assert all(re.fullmatch(r"((?:.*/|)[^.]+)[.]([^/]*)", name)[1] == name[:-4] for _, name, *_ in stored)  # type: ignore[index]


def test_too_many_unreadable_leave_what_was_there(tmp_path: Path, many: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "before").touch()
    with pytest.raises(FacerepError, match=r"crop\.max_unreadable = 0\.01: 1 of 80 .* train/n3/0003_01\.png first"):
        crop(settings(method="center", max_unreadable=0.01), [many], tmp_path / "out", workers=2)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "before"]


def test_several_archives_and_lists_beside_them(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as zipped:
        zipped.writestr("test/n2/0001_01.png", encoded(picture(2)))
    (tmp_path / "identity_meta.csv").write_text("Class_ID, Name\n")
    archive(tmp_path / "a.tar", {"train/n1/0001_01.png": encoded(picture(1)), "lfw/Z/1.png": encoded(picture(9))})
    metrics = crop(settings(method="center"), sorted(tmp_path.iterdir()), tmp_path / "out", workers=1)
    assert metrics["splits"] == {"all": 1, "test": 1, "train": 1}
    assert list(rows(tmp_path / "out")) == ["train/n1/0001_01", "all/Z/1", "test/n2/0001_01"]


@pytest.mark.parametrize("method", ["auto", "detector"])
def test_no_face_anywhere_suggests_the_centre(tmp_path: Path, method: str) -> None:
    source = archive(tmp_path / "a.tar", {f"lfw/Zico/{i}.png": encoded(picture(i)) for i in range(3)})
    with pytest.raises(FacerepError, match=f"crop.method = {method}: no face .* any of 3 .*set crop.method to center"):
        crop(settings(method=method), [source], tmp_path / "out", workers=1)
    assert list(tmp_path.iterdir()) == [source]


def test_boxes_that_fit_no_photograph_are_not_passed_over(tmp_path: Path, many: Path) -> None:
    with pytest.raises(FacerepError, match=r"crop\.method = box: no loose_bb_\*\.csv has a box"):
        crop(settings(method="box", max_unreadable=0.05), [many], tmp_path / "out", workers=1)


def test_no_photograph_at_all(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.tar", {"notes/today/a.txt": b"", "cover.jpg": encoded(picture(0))})
    with pytest.raises(FacerepError, match=r"a\.tar: no photographs in identity folders"):
        crop(settings(), [source], tmp_path / "out", workers=1)


def test_a_damaged_archive_is_told_before_any_work(tmp_path: Path, many: Path) -> None:
    short = tmp_path / "short.tar"
    short.write_bytes(many.read_bytes()[:60_000])
    with pytest.raises(FacerepError, match=r"short\.tar: the archive is cut short"):
        crop(settings(method="center"), [many, short], tmp_path / "out", workers=1)
    with pytest.raises(FacerepError, match=r"a\.tar: loose_bb_test\.csv, line 2"):
        crop(
            settings(),
            [archive(tmp_path / "a.tar", {"loose_bb_test.csv": b"NAME_ID,X,Y,W,H\nx\n"})],
            tmp_path,
            workers=1,
        )


def test_the_vggface2_sample_and_its_genuine_boxes(tmp_path: Path) -> None:
    folder = DATA / "vggface2"
    if not folder.is_dir():
        pytest.skip("the VGGFace2 sample is not here")
    sources = [folder / "loose_bb_test.head.csv", folder / "vggface2_test_sample.tar.gz"]
    metrics = crop(settings(method="box", extend=0.3, size=112), sources, tmp_path / "out", workers=2)
    assert metrics["found"] == {"box": 6, "detector": 0, "center": 0}
    with tarfile.open(sources[1]) as tar:
        photo = Image.open(io.BytesIO(tar.extractfile("test/n000106/0003_01.jpg").read()))  # type: ignore[union-attr]
    # 108,79,136,182 in 354×369: grown to 236.6, so 237, around (176, 170)
    plain = photo.resize((112, 112), Image.Resampling.BICUBIC, box=(58, 52, 295, 289))
    stored = face(tmp_path / "out", rows(tmp_path / "out")["test/n000106/0003_01"])
    assert np.abs(stored - np.asarray(plain)).mean() < 2


def test_boxes_with_other_names_are_used_and_the_rest_is_told(tmp_path: Path) -> None:
    members = {f"labelled/ant/{n}.png": encoded(picture(n)) for n in range(4)}
    members |= {f"unlabelled/{n}.png": encoded(picture(10 + n)) for n in range(2)}
    names = ["ant/0", "ant/1.png", r"labelled\ant\2", "unlabelled/0.png", "nobody/7", "1"]
    csv = "NAME_ID,X,Y,W,H\n" + "".join(f'"{name}",20,30,40,60\n' for name in names)
    source = archive(tmp_path / "a.tar", members | {"loose_bb.csv": csv.encode()})
    metrics = crop(settings(method="box"), [source], tmp_path / "out", workers=1)
    assert metrics["found"] == {"box": 4, "detector": 0, "center": 2}
    assert metrics["boxes"] == {"unused": 2, "doubled": 0, "shared": 0, "outside": 0}
    (note,) = (note for note in metrics["notes"] if "boxes" in note)
    assert note.startswith("2 of 6 boxes fit no photograph") and "such as ant/0." in note
    assert crop(settings(method="box"), [source], tmp_path / "again", workers=1) == metrics, "from what was cut before"


@pytest.mark.parametrize(
    ("names", "counts", "words"),
    [
        (["ant/0", "ant/1"], {"shared": 2}, "2 boxes fit several photographs each"),
        (["a/ant/0", "a/ant/0", "b/ant/0.png"], {"doubled": 1}, "1 of 3 boxes are followed by another"),
        (["/home/me/ant/1", "C:\\data\\ant\\0"], {"shared": 2}, "several"),
        (["a/ant/0", "!a/ant/1"], {"outside": 1}, "1 boxes lie outside"),
    ],
)
def test_what_is_odd_about_boxes_is_told(tmp_path: Path, names: list[str], counts: dict[str, int], words: str) -> None:
    members = {
        f"{above}/ant/{n}.png": encoded(picture(10 * n + len(above), 90, 90)) for above in ("a", "b") for n in (0, 1)
    }
    boxes = [f'"{name.lstrip("!")}",{500 if name[0] == "!" else 20},30,40,60.0' for name in names]
    members["loose_bb.csv"] = ("NAME_ID,X,Y,W,H\n" + "\n".join(boxes)).encode()
    metrics = crop(settings(method="box"), [archive(tmp_path / "a.tar", members)], tmp_path / "out", workers=1)
    assert metrics["boxes"] == {"unused": 0, "doubled": 0, "shared": 0, "outside": 0} | counts
    assert [note for note in metrics["notes"] if words in note]


def test_boxes_that_all_fit_nothing_say_how_a_name_must_look(tmp_path: Path) -> None:
    members = {"set/ant/0.png": encoded(picture(0)), "loose_bb.csv": b'NAME_ID,X,Y,W,H\n"0",1,2,30,40\n'}
    with pytest.raises(
        FacerepError, match=r"none of 1 boxes fits any of 1 photographs; a box is named .* such as ant/0"
    ):
        crop(settings(method="box"), [archive(tmp_path / "a.tar", members)], tmp_path / "out", workers=1)


def deep(seed: int, bits: int, mode: str = "uint16") -> Image.Image:
    grey = np.asarray(picture(seed).convert("L")).astype(np.int64)
    return Image.fromarray((grey * 2**bits // 256).astype(mode))


def brightest(out: Path, identity: str) -> int:
    return max(int(face(out, row).max()) for key, row in rows(out).items() if f"/{identity}/" in key)


@pytest.mark.parametrize(
    ("bits", "mode", "kind"),
    [(12, "uint16", "PNG"), (16, "uint16", "PNG"), (8, "int32", "TIFF"), (8, "float32", "TIFF")],
)
def test_deep_pictures_are_scaled_by_one_rule_for_the_set(tmp_path: Path, bits: int, mode: str, kind: str) -> None:
    """Of 12 bits in 16 white is 4,095, and a picture half as bright as the others stays so."""
    suffix = kind.lower()
    members = {f"all/deep/{n}.{suffix}": encoded(deep(n, bits, mode), kind) for n in range(6)}
    members |= {f"all/dim/{n}.{suffix}": encoded(deep(n, bits - 1, mode), kind) for n in range(6)}
    members |= {f"all/plain/{n}.png": encoded(picture(n)) for n in range(6)}
    metrics = crop(settings(method="center"), [archive(tmp_path / "a.tar", members)], tmp_path / "out", workers=1)
    assert metrics["depth"] == f"0 is black and {2**bits - 1:g} is white"
    assert any(str(metrics["depth"]) in note for note in metrics["notes"])
    out, plain = tmp_path / "out", brightest(tmp_path / "out", "plain")
    assert brightest(out, "deep") > 200 and plain > 200
    assert brightest(out, "dim") == pytest.approx(brightest(out, "deep") / 2, abs=3)
    assert (metrics["nearly_black"], metrics["nearly_white"]) == (0, 0)


def test_a_set_of_dark_pictures_is_worth_a_sentence(tmp_path: Path) -> None:
    """As 12 bits in 16 of a colour image are, of which Pillow keeps the upper 8."""
    dark = {f"all/ill/{n}.png": encoded(picture(n).point([v // 16 for v in range(256)] * 3)) for n in range(5)}
    members = dark | {f"all/well/{n}.png": encoded(picture(n)) for n in range(5)}
    metrics = crop(settings(method="center"), [archive(tmp_path / "a.tar", members)], tmp_path / "out", workers=1)
    assert (metrics["nearly_black"], metrics["depth"]) == (5, None)
    assert any(note.startswith("5 of 10 faces are nearly black") for note in metrics["notes"])


def spoiled(image: Image.Image, value: float) -> Image.Image:
    """With one pixel that says nothing."""
    values = np.array(image)
    values[0, 0] = value
    return Image.fromarray(values)


@pytest.mark.parametrize(
    ("bits", "mode", "value", "depth"),
    [
        (12, "uint16", 65535, "0 is black and 4095 is white"),  # a hot pixel
        (10, "int32", -32768, "0 is black and 1023 is white"),  # nothing was measured there
        (0, "float32", 1.0001, "0 is black and 1 is white"),
        (0, "float32", np.nan, "0 is black and 1 is white"),
    ],
)
def test_one_odd_pixel_does_not_rule_the_set(tmp_path: Path, bits: int, mode: str, value: float, depth: str) -> None:
    images = [deep(n, bits or 8, mode) for n in range(4)]
    if not bits:
        images = [Image.fromarray(np.asarray(image) / np.float32(255)) for image in images]
    members = {f"all/a/{n}.tiff": encoded(spoiled(image, value), "TIFF") for n, image in enumerate(images)}
    metrics = crop(settings(method="center"), [archive(tmp_path / "a.tar", members)], tmp_path / "out", workers=1)
    assert metrics["depth"] == depth
    assert metrics["faces"] == 4 and brightest(tmp_path / "out", "a") > 200


def test_a_few_dark_classes_beside_a_large_pool_are_told(tmp_path: Path) -> None:
    dark = {f"set/ill/{n}.png": encoded(picture(n).point([v // 16 for v in range(256)] * 3)) for n in range(5)}
    pool = {f"unlabelled/{n}.jpg": encoded(picture(100 + n, 24, 24), "JPEG") for n in range(300)}
    metrics = crop(settings(method="center"), [archive(tmp_path / "a.tar", dark | pool)], tmp_path / "out", workers=1)
    assert any("5 of 305 faces are nearly black, and most of ill:" in note for note in metrics["notes"])


def test_deep_pictures_are_found_in_each_part_of_a_set(tmp_path: Path) -> None:
    """However many others the unlabelled part has."""
    members = {f"set/a/{n}.png": encoded(deep(n, 12)) for n in range(4)}
    members |= {f"unlabelled/{n}.png": encoded(picture(n, 16, 16)) for n in range(400)}
    metrics = crop(settings(method="center"), [archive(tmp_path / "a.tar", members)], tmp_path / "out", workers=1)
    assert metrics["depth"] == "0 is black and 4095 is white"
