"""evaluate: how good the fine-tuned model is, in numbers and pictures."""

from pathlib import Path

from facerep.evaluate.finetuned import evaluate
from stages import run

if __name__ == "__main__":
    run("evaluate", lambda params: evaluate(params, Path("data"), Path("models/finetuned"), Path("metrics")))
