"""benchmarks/views.py: a planted law comes out, and the table of a made-up file."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from benchmarks import views

LENGTHS = np.array([1e5, 2e5, 4e5, 1e6, 2e6])


@given(st.floats(20, 90), st.floats(5, 60), st.floats(0.05, 1.5))
def test_a_law_without_noise_is_found(top: float, fall: float, rate: float) -> None:
    scores = top - fall * (LENGTHS / 1e5) ** -rate
    law = views.power_law(LENGTHS, scores)
    assert [law(n) for n in (*LENGTHS, 4e6, 2e7)] == pytest.approx(
        [top - fall * (n / 1e5) ** -rate for n in (*LENGTHS, 4e6, 2e7)], abs=0.05
    )


def test_with_noise_it_is_scipys_own_least_squares() -> None:
    scores = 50 - 40 * (LENGTHS / 1e5) ** -0.4 + np.array([0.5, -0.4, 0.3, -0.6, 0.4])
    law = views.power_law(LENGTHS, scores)
    theirs, _ = curve_fit(lambda n, top, fall, rate: top - fall * (n / 1e5) ** -rate, LENGTHS, scores, (40, 30, 0.5))
    assert (law.top, law.fall, law.rate) == pytest.approx(tuple(theirs), rel=1e-3)


def test_the_table_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "views.jsonl"
    lines = []
    for n in LENGTHS[::-1]:  # in any order
        good = f"{60 - 40 * (n / 1e5) ** -0.5:.1f}"
        lines.append({"views": n, "rows": [["3", "5.0", "5.0", "5.0"], ["4", good, good, "7.0"]]})
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    views.main([str(file)])
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["views"] == LENGTHS.tolist()
    name, longest, foretold, twice, *_ = told["rows"][0]
    assert (name, longest) == ("kNN", "51.1")
    assert float(foretold) == pytest.approx(51.1, abs=0.5) and float(twice) == pytest.approx(53.7, abs=0.5)
    assert told["rows"][2] == ["probe, 12 labels", *["7.0"] * 5]


def test_three_lengths_are_too_few(tmp_path: Path) -> None:
    file = tmp_path / "views.jsonl"
    file.write_text("".join(json.dumps({"views": n, "rows": []}) + "\n" for n in (1, 2, 3)))
    with pytest.raises(SystemExit):
        views.main([str(file)])
