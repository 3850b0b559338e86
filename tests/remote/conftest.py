"""What the tests of the remote share."""

from pathlib import Path

import pytest

from tests.support.remotes import Place


@pytest.fixture
def place(template: Place, tmp_path: Path) -> Place:
    """A copy of the module's `template`, a repository and the bucket that it is pushed to, for one test."""
    return template.copied(tmp_path)
