"""The table of classes that a first look prints."""

import pytest

from facerep.study.look import _show_classes


def test_brackets_in_a_class_name_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    numbers = {"found": 9, "unreadable": 0, "train": 5, "val": 2, "test": 2, "dropped": {}}
    _show_classes([{"name": "cat [old]", **numbers}, {"name": "[/dog]", **numbers}])
    shown = capsys.readouterr().out
    assert "cat [old]" in shown and "[/dog]" in shown
