"""Which source code the results of a stage depend on: the one list behind dvc.yaml's deps and the key of unfinished work.

Left out is what no result depends on: core/, resume/ and params.py (DVC watches the values), with what these alone import.
`download` is left out as a whole: a sha256 or the URL says what the bytes are, a `synthetic://` URL by its version.
"""

from pathlib import Path

# folders and files of this package
STAGES: dict[str, list[str]] = {
    "crop": ["archives", "crop", "faces/shards.py"],
    "select": ["faces/roles.py", "faces/shards.py", "select"],
    "pretrain": ["faces", "nets", "pretexts.py", "pretrain", "training"],
    "probe": ["evaluate", "faces", "figures", "nets", "pretexts.py", "pretrain", "training"],
    "finetune": ["faces", "finetune", "nets", "training"],
    "evaluate": ["evaluate", "faces", "figures", "nets", "training"],
}


def code_of(stage: str) -> list[Path]:
    """The folders and files of the stage's code, absolute."""
    package = Path(__file__).resolve().parents[1]
    return [package / name for name in STAGES[stage]]
