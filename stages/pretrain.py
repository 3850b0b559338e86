"""pretrain: starting weights, and what a pretext on unlabelled faces makes of them."""

from pathlib import Path

from facerep.pretrain.stage import pretrain
from stages import run

if __name__ == "__main__":
    run(
        "pretrain",
        lambda params: pretrain(
            params, Path("data"), Path("models/pretrained"), Path("metrics/pretrain"), Path("speed/pretrain.json")
        ),
    )
