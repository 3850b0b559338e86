"""Boxes and squares against numbers worked out by hand and a loop over pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facerep.core.errors import FacerepError
from facerep.crop.boxes import Boxes, central_square, read_boxes, square_box
from facerep.crop.resample import cut_square
from tests.support.paths import DATA


def test_vggface2_rows() -> None:
    csv = b'NAME_ID,X,Y,W,H\r\n"n000001/0001_01",60,60,79,109\n"n000002/0007_02",-3,-12,20,30\n\n'
    assert dict(read_boxes("loose_bb_test.csv", csv)) == {
        "n000001/0001_01": (60, 60, 79, 109),
        "n000002/0007_02": (-3, -12, 20, 30),
    }


@pytest.mark.parametrize(
    "line",
    [
        '"n1/0001",1,2,3',
        '"n1/0001",1,2,3,4,5',
        '"n1/0001",1,2,x,4',
        '"n1/0001",1,2,3.5,4',
        '"",1,2,3,4',
        "oops",
        f'"n1/0001",1,2,3,{2**31}',
    ],
)
def test_a_malformed_row_is_named_by_file_and_line(line: str) -> None:
    csv = f'NAME_ID,X,Y,W,H\n"n1/0000",1,2,3,4\n{line}\n'.encode()
    with pytest.raises(FacerepError, match=r"^a\.tar: loose_bb_test\.csv, line 3: "):
        dict(read_boxes("a.tar: loose_bb_test.csv", csv))


@pytest.mark.parametrize("csv", [b"", b"X,Y\n", b"\xff\xfe\x00\x01", b'"n1/0001",1,2,3,4\n'])
def test_a_csv_without_the_header_is_named(csv: bytes) -> None:
    with pytest.raises(FacerepError, match=r"^boxes\.csv: the first line is not NAME_ID,X,Y,W,H"):
        dict(read_boxes("boxes.csv", csv))


@given(
    st.lists(st.tuples(st.text(max_size=3), st.tuples(*[st.integers(1 - 2**31, 2**31 - 1)] * 4)), max_size=30),
    st.text(),
)
def test_the_table_is_a_dict_in_less_memory(rows: list[tuple[str, tuple[int, int, int, int]]], other: str) -> None:
    table, plain = Boxes(), dict(rows)
    table.update(rows[: len(rows) // 2])
    assert all(table.get(name) == dict(rows[: len(rows) // 2])[name] for name, _ in rows[: len(rows) // 2])
    table.update(rows[len(rows) // 2 :])
    assert {name: table.get(name) for name in plain} == plain
    assert table.get(other) == plain.get(other)


def test_the_genuine_csv() -> None:
    path = DATA / "vggface2" / "loose_bb_test.head.csv"
    if not path.is_file():
        pytest.skip("the VGGFace2 sample is not here")
    boxes = dict(read_boxes(path.name, path.read_bytes()))
    assert len(boxes) == len(path.read_text().splitlines()) - 1
    assert boxes["n000001/0001_01"] == (60, 60, 79, 109)
    assert sum(x < 0 or y < 0 for x, y, _, _ in boxes.values()) > 10


@pytest.mark.parametrize(
    ("box", "size", "extend", "square"),
    [
        ((20, 30, 40, 60), (200, 200), 0.0, (10, 30, 60)),  # the longer edge, around the same centre (40, 60)
        ((20, 30, 40, 60), (200, 200), 0.5, (-5, 15, 90)),  # 60×90 from (10, 15); squared it leaves the photograph
        ((100, 100, 100, 50), (400, 400), 0.3, (85, 60, 130)),  # 130×65 from (85, 92.5), centre (150, 125)
        ((-10, -20, 50, 60), (100, 100), 0.0, (0, 0, 40)),  # clipped to (0, 0)…(40, 40)
        ((80, 10, 60, 20), (100, 100), 0.0, (80, 10, 20)),  # clipped to x 80…100
        ((0, 0, 100, 80), (100, 80), 0.3, (0, -10, 100)),  # the whole photograph: padded above and below
        ((10, 10, 3, 2), (100, 100), 0.0, (10, 10, 3)),  # half pixels go up: top 9.5
        ((108, 79, 136, 182), (354, 369), 0.3, (58, 52, 237)),  # 236.6 high around (176, 170): top 51.5
    ],
)
def test_squares_worked_out_by_hand(box, size, extend, square) -> None:
    assert square_box(box, size, extend) == square


@pytest.mark.parametrize("box", [(100, 0, 20, 20), (0, -30, 20, 30), (-50, 5, 40, 10), (5, 5, 0, 10), (5, 5, 10, -3)])
def test_a_box_outside_or_without_area_gives_no_square(box) -> None:
    assert square_box(box, (100, 100), 0.0) is None


def test_central_square() -> None:
    assert central_square((7, 4)) == (1, 0, 4)
    assert central_square((4, 9)) == (0, 2, 4)
    assert central_square((5, 5)) == (0, 0, 5)


@given(
    width=st.integers(1, 12),
    height=st.integers(1, 12),
    box=st.tuples(st.integers(-8, 12), st.integers(-8, 12), st.integers(1, 20), st.integers(1, 20)),
    extend=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_cutting_repeats_the_edge(width, height, box, extend) -> None:
    pixels = np.random.default_rng(width * 13 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    square = square_box(box, (width, height), extend)
    if square is None:
        return
    left, top, side = square
    slow = np.empty((side, side, 3), np.uint8)
    for y in range(side):
        for x in range(side):
            slow[y, x] = pixels[min(max(top + y, 0), height - 1), min(max(left + x, 0), width - 1)]
    np.testing.assert_array_equal(cut_square(pixels, square), slow)


def test_a_photograph_finds_the_box_that_says_most_of_its_name() -> None:
    table = Boxes()
    boxes = {"2024/1": (1, 1, 1, 1), "b/2024/1": (2, 2, 2, 2), "ant/1.png": (3, 3, 3, 3), "1": (4, 4, 4, 4)}
    csv = "NAME_ID,X,Y,W,H\n" + "".join(f'"{name}",{",".join(map(str, box))}\n' for name, box in boxes.items())
    table.update(read_boxes("loose_bb.csv", csv.replace("b/2024", r".\b\2024").encode()))
    assert table.unused == 4
    assert table.of("pool/a/2024/1.jpg") == (1, 1, 1, 1)
    assert table.of("pool/b/2024/1.jpg") == (2, 2, 2, 2)
    assert table.of("ant/1.png") == (3, 3, 3, 3)
    assert table.of("ant/1.jpg") is None, "the suffix was named"
    assert table.of("c/1.jpg") is None, "a stem alone names no photograph"
    assert table.unused == 1
