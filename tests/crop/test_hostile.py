"""Thousands of broken archives and photographs: no crash, no hang, no memory above a cap, nothing written, and every
photograph that is whole is delivered."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT


@pytest.mark.skipif(sys.platform != "linux", reason="the cap on memory is Linux's")
@pytest.mark.parametrize(
    ("first", "last"), [(1, 400), pytest.param(400, 8000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_whatever_is_broken(tmp_path: Path, first: int, last: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.hostile", str(tmp_path), str(first), str(last)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [path.name for path in tmp_path.rglob("*")] == ["broken"], "nothing but the archive itself is there"
    seen = json.loads(done.stdout.splitlines()[-1])
    number = last - first
    assert seen["refused"] > number / 8, "archives are really broken"
    assert seen["unreadable"] > number / 15, "and photographs"
    assert seen["hostile members"] > number / 4
    assert seen["cut"] > 2 * number
    assert seen["delivered whole"] > 2.5 * number
