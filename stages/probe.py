"""probe: how good the frozen features of the pretrained model are."""

from pathlib import Path

from facerep.evaluate.pretrained import probe
from stages import run

if __name__ == "__main__":
    run("probe", lambda params: probe(params, Path("data"), Path("models/pretrained"), Path("metrics")))
