"""Which source code the results of a stage depend on."""

from pathlib import Path

# folders and files of this package
STAGES: dict[str, list[str]] = {
    "crop": ["archives", "crop", "faces/shards.py"],
    "pretrain": ["faces", "nets", "training", "pretrain"],
    "finetune": ["faces", "nets", "training", "finetune"],
}


def code_of(stage: str) -> list[Path]:
    """The folders and files of the stage's code, absolute."""
    package = Path(__file__).resolve().parents[1]
    return [package / name for name in STAGES[stage]]
