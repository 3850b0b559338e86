"""The lines that a study writes into a file while it runs."""

import pytest

from facerep.study.runs.said import Said


def test_the_measure_is_called_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    with Said("small", 2) as said:
        said.end("one", 7, 0.5, "balanced_accuracy")
        said.end("two", None, None)
    assert capsys.readouterr().out.splitlines() == [
        "small: 1 of 2: one done, balanced accuracy on val 50.0 % in 7 s",
        "small: 2 of 2: two failed",
    ]
