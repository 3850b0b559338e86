"""Which code a stage depends on."""

import pytest

from facerep.core.dependencies import STAGES, code_of


@pytest.mark.parametrize("stage", STAGES)
def test_the_code_of_a_stage_is_there(stage: str) -> None:
    assert [path.parts[-len(name.split("/")) :] for path, name in zip(code_of(stage), STAGES[stage], strict=True)] == [
        tuple(name.split("/")) for name in STAGES[stage]
    ]
    assert all(path.is_absolute() and path.exists() for path in code_of(stage))
