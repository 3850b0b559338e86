"""As many cores as this process may use, not as many as the machine has."""

import os
import subprocess
import sys

import pytest

from facerep.core.cores import cores

COUNT = """
import os, sys
from facerep.core.cores import cores
os.sched_setaffinity(0, {int(n) for n in sys.argv[1:]})
print(cores())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux alone ties a process to cores")
def test_a_process_that_is_tied_to_some_cores_counts_these() -> None:
    mine = sorted(os.sched_getaffinity(0))
    for some in (mine[:1], mine[:2], mine):
        told = subprocess.run(
            [sys.executable, "-c", COUNT, *map(str, some)], capture_output=True, text=True, check=True
        )
        assert int(told.stdout) == len(some)


@pytest.mark.parametrize(("told", "expected"), [(6, 6), (None, 1)])
def test_where_a_process_cannot_be_tied_all_cores_count(
    told: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS; one, where nobody knows."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: told)
    assert cores() == expected
