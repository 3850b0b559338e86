"""finetune: the labelled task, learned from the pretrained weights."""

from pathlib import Path

from facerep.finetune.stage import finetune
from stages import run

if __name__ == "__main__":
    run(
        "finetune",
        lambda params: finetune(
            params,
            Path("data"),
            Path("models/pretrained"),
            Path("models/finetuned"),
            Path("metrics/finetune"),
            Path("speed/finetune.json"),
        ),
    )
