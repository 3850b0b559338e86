"""What a stage imports before it works: nothing large that only some runs need. Each in a process of its own."""

import json
import subprocess
import sys

import pytest

from tests.support.repository import environment

ASKED = "import json, sys; before = set(sys.modules); import {}; print(json.dumps(sorted(set(sys.modules) - before)))"
# transformers itself brings scipy, torchvision and torch._dynamo
BY_SOME = {"aiohttp", "gcsfs", "lightly", "matplotlib", "sklearn", "dvc", "requests"}
WITHOUT_TRANSFORMERS = {"accelerate", "scipy", "torchvision", "transformers", "torch._dynamo"}


def imported_by(module: str) -> set[str]:
    """Everything that one module brings, in a fresh Python."""
    command = [sys.executable, "-c", ASKED.format(module)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("facerep.pretrain.stage", BY_SOME),
        ("facerep.finetune.stage", BY_SOME),
        ("facerep.evaluate.finetuned", BY_SOME - {"matplotlib"}),
        ("facerep.evaluate.pretrained", BY_SOME - {"matplotlib"}),
        ("facerep.faces.pixels", BY_SOME | WITHOUT_TRANSFORMERS),
        ("facerep.faces.transforms", BY_SOME | WITHOUT_TRANSFORMERS),
        ("facerep.cli", BY_SOME | WITHOUT_TRANSFORMERS | {"torch", "pyarrow"}),
    ],
)
def test_what_only_some_runs_need_is_imported_by_these(module: str, unwanted: set[str]) -> None:
    there = imported_by(module)
    assert module in there
    assert sorted(unwanted & there) == []
