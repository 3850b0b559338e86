"""evaluate: how good both models are, in numbers and pictures."""

from pathlib import Path

from facerep.evaluate.stage import evaluate
from stages import run

if __name__ == "__main__":
    run(
        "evaluate",
        lambda params: evaluate(
            params, Path("data"), Path("models/pretrained"), Path("models/finetuned"), Path("metrics")
        ),
    )
