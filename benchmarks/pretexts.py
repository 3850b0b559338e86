"""What a pretext's features are worth on the labelled photographs of train and val: cheaply, before anything is built out.

Pretrains by params.yaml with what is changed on the command line, on what `dvc repro select` has made:
`python -m benchmarks.pretexts grayscale pretrain.epochs=1 pretrain.reconstruction_loss=huber`. The photographs of role test
are not looked at.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pyarrow as pa
import torch

from benchmarks.common import ROOT, machine, show
from facerep.evaluate.frozen import FIRST_STAGE
from facerep.faces.pixels import FacePixels
from facerep.faces.roles import read_selection
from facerep.nets.convnext import load_backbone
from facerep.nets.features import pooled_stages, stages_of
from facerep.params import Params, checked, load_yaml, parse_yaml
from facerep.presets import merged
from facerep.pretrain.stage import pretrain
from facerep.study.runs.amounts import passes
from facerep.training.inference import outputs
from facerep.training.probes import NEIGHBOURS, TEMPERATURE, fit_probe

DRAWS = {3: 4, 12: 2}  # labels per identity: how often they are drawn, and the mean taken
MEASURES = ["kNN", *(f"probe, {n} labels" for n in DRAWS)]


def main(given: list[str] | None = None) -> None:
    """Pretrain, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pretext")
    parser.add_argument("changes", nargs="*", metavar="key=value", help="of params.yaml, such as pretrain.epochs=1")
    options = parser.parse_args(given)
    values = {key: parse_yaml(value) for key, _, value in (change.partition("=") for change in options.changes)}
    raw = merged(load_yaml(ROOT / "params.yaml", ""), {**values, "pretext": options.pretext})
    params = checked(raw, Params, "params.yaml with the changes")
    torch.set_num_threads(params.threads)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        told = pretrain(params, ROOT / "data", out / "model", out / "curves", out / "speed.json")
        minutes = (time.perf_counter() - began) / 60
        rows = scores(out / "model", params)
    show(" ".join([options.pretext, *options.changes]), ["stage", *MEASURES], rows)
    seen = round(told.get("train", {}).get("photographs", 0) * params.pretrain.epochs * passes(params))
    about = {"pretext": options.pretext, "changes": options.changes, "views": seen, "minutes": round(minutes, 1)}
    print(json.dumps({**about, "machine": machine(params.threads), "test": told.get("test"), "rows": rows}))


def scores(model: Path, params: Params) -> list[list[str]]:
    """A row a stage, in percent: leave-one-out nearest neighbours, and the linear probe at a few labels."""
    backbone = load_backbone(model).eval()
    rows = pa.concat_tables([read_selection(ROOT / "data" / "selection.parquet", role) for role in ("train", "val")])
    pixels = FacePixels(ROOT / "data" / "faces", rows, params.model.image_size)
    found = outputs(
        lambda x: pooled_stages(stages_of(backbone, x))[FIRST_STAGE - 1 :], pixels, torch.device("cpu"), None
    )
    labels = pixels.labels.numpy()
    return [
        [str(stage), *map(percent, (leave_one_out(x, labels), *probes(x, labels)))]
        for stage, x in enumerate(found, FIRST_STAGE)
    ]


def percent(share: float) -> str:
    """With a digit after the point."""
    return f"{100 * share:.1f}"


def leave_one_out(features: np.ndarray, labels: np.ndarray) -> float:
    """How often the other photographs nearest by cosine vote right; facerep.training.probes has the votes."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    near = np.argsort(-similarity, axis=1, kind="stable")[:, :NEIGHBOURS]
    votes = np.zeros((len(labels), labels.max() + 1))
    each = np.arange(len(labels))[:, None]
    np.add.at(votes, (each, labels[near]), np.exp(similarity[each, near] / TEMPERATURE))
    return float(np.mean(votes.argmax(1) == labels))


def probes(features: np.ndarray, labels: np.ndarray) -> list[float]:
    """The mean accuracy of linear probes over draws of their labels; of the others a half chooses, a half judges."""
    means = []
    for number, draws in DRAWS.items():
        right = []
        for seed in range(draws):
            shuffled = np.random.default_rng(seed).permutation(len(labels))
            place = np.zeros(len(labels), int)  # the how many-th of its identity each photograph is
            for identity in np.unique(labels):
                own = shuffled[labels[shuffled] == identity]
                place[own] = np.arange(len(own))
            learned, others = np.flatnonzero(place < number), np.flatnonzero(place >= number)
            chooses, judges = others[::2], others[1::2]
            probe = fit_probe(features[learned], labels[learned], features[chooses], labels[chooses], "accuracy")
            right.append(np.mean(probe.answers(features[judges]) == labels[judges]))
        means.append(float(np.mean(right)))
    return means


if __name__ == "__main__":
    main()
