"""A pretraining of a given time by the stage pretrain itself, and its frozen-feature scores beside those of random weights.

Writes OUT/pretrain.json (settings, speed, curves, scores) and OUT/pretrained/, a transformers folder with weights in
fp16. How many epochs fit is told by some timed steps beforehand.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from ruamel.yaml import YAML
from torch import nn

from benchmarks.common import ROOT, Case, closing, number, preset, save, show
from benchmarks.on_device import WARM_UP, timed_on
from benchmarks.steps import Ours
from benchmarks.variants import Here, measure
from facerep.core.cores import cores
from facerep.core.errors import FacerepError
from facerep.evaluate.frozen import frozen_stages
from facerep.evaluate.scores import score_frozen
from facerep.faces.roles import read_pretraining
from facerep.nets.convnext import build_backbone, load_backbone
from facerep.params import Params, load_params

# What SimCLR is known to want beyond lfw's block: small crops, strong jitter, greys, a low temperature, large batches.
SETTINGS = {"learning_rate": 0.002, "temperature": 0.1, "min_crop_area": 0.25, "color_jitter": 0.4}
SETTINGS |= {"hue": 0.1, "degrees": 15.0, "random_grayscale": 0.2}
SHARE = 0.75  # of the time for training; the rest is the start, val and saving
MOST = 400  # epochs
SHOWN = (
    ("linear probe", "probe", "accuracy"),
    ("kNN", "knn", "accuracy"),
    ("verification, AUC", "verification", "auc"),
)


def main(given: list[str] | None = None) -> None:
    """Pretrain, score, bring the weights home."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with faces/ and what select wrote")
    parser.add_argument("--out", type=Path, required=True, help="where the results go")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--pretext", default="simclr")
    parser.add_argument("--model", default="atto")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--compile", action="store_true", help="takes a minute of its own")
    parser.add_argument("--seconds", type=float, default=120, help="of pretraining, about (default: 120)")
    options = parser.parse_args(given)
    try:
        run(options)
    except FacerepError as error:
        sys.exit(f"gpu-pretrain: {error}")


def run(options: argparse.Namespace) -> None:
    """As main says."""
    photographs = read_pretraining(options.data / "pretraining.parquet").num_rows
    batch = min(options.batch_size, max(2, photographs // 4))
    case = Case(options.model, options.image_size, batch)
    rate = rate_of(options.pretext, case, options.device, options.compile)
    epochs = max(1, min(MOST, int(SHARE * options.seconds * rate / photographs)))
    print(f"{rate:,.0f} photographs/s: {epochs} epochs of {photographs} photographs", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        params = params_of(options, case, epochs, place / "params.yaml")
        (place / "data").symlink_to(options.data.resolve())
        start = time.perf_counter()
        stage = subprocess.run(
            [sys.executable, "-m", "stages.pretrain"], cwd=place, env=environment(place), check=False
        )
        if stage.returncode:
            raise FacerepError(
                f"the stage pretrain ended with exit code {stage.returncode}; what it said stands above."
            )
        seconds = time.perf_counter() - start
        line = closing(
            "pretrain", cores(), {}, options.device, pretext=options.pretext, case=str(case), batch_size=batch
        )
        for name, file in (("metrics", "metrics/pretrain.json"), ("speed", "speed/pretrain.json")):
            line[name] = json.loads((place / file).read_text())
        line["curves"] = json.loads((place / "metrics/pretrain/curves.json").read_text())
        line |= {"photographs": photographs, "epochs": epochs, "stage_s": round(seconds, 1), "step_images_per_s": rate}
        line["settings"] = params.pretrain.model_dump()
        backbone = load_backbone(place / "models/pretrained")
        backbone.half().save_pretrained(options.out / "pretrained")  # which facerep loads in fp32
        backbone.float()
    save(line, options.out / "pretrain.json")  # before the scores, which may take too long
    for name, network in (("pretrained", backbone), ("random", build_backbone(params.model, params.pretrain.seed))):
        line[name] = scores_of(network, params, options.data, options.device)
        save(line, options.out / "pretrain.json")
    show(
        f"frozen features after {epochs * photographs:,} photographs of {options.pretext}, and of random weights",
        ["", "pretrained", "random"],
        [[name, number(line["pretrained"][way][key]), number(line["random"][way][key])] for name, way, key in SHOWN],
    )
    for budget, value in line["pretrained"]["probe"]["by_labels"].items():
        print(
            f"linear probe, {budget} labels: {value:.3f}, random weights {line['random']['probe']['by_labels'][budget]:.3f}"
        )


def rate_of(pretext: str, case: Case, device: str, compiled: bool, seconds: float = 1.0) -> float:
    """Photographs/s of the training step on a resident batch."""
    ours = Ours(pretext, case, cores(), device, compiled=compiled, **SETTINGS)
    work = Here("step", timed_on(device, ours.step, case.batch_size))
    work.run(WARM_UP)
    measure([work], repeats=1, seconds=seconds)
    return work.median


def params_of(options: argparse.Namespace, case: Case, epochs: int, path: Path) -> Params:
    """params.yaml with the preset lfw and what this run wants, written to `path`."""
    raw = preset("lfw").model_dump()
    raw |= {"pretext": options.pretext, "device": options.device, "threads": cores(), "compile": options.compile}
    raw["crop"]["size"] = raw["model"]["image_size"] = case.image_size
    raw["model"]["name"] = case.model
    raw["pretrain"] |= {
        **SETTINGS,
        "epochs": epochs,
        "batch_size": case.batch_size,
        "warmup_ratio": 0.05,
    }
    raw["pretrain"]["score_every"] = max(1, epochs // 10)
    YAML().dump(raw, path)
    return load_params(path)


def environment(place: Path) -> dict[str, str]:
    """The shell's, with this repository on the path and unfinished work in `place`."""
    paths = [str(ROOT), str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "FACEREP_SCRATCH": str(place / "scratch")}


def scores_of(backbone: nn.Module, params: Params, data: Path, device: str) -> dict[str, Any]:
    """Linear probe, kNN and verification of the frozen features."""
    stages = frozen_stages(backbone.to(device).eval(), data, params.model.image_size, torch.device(device))
    return score_frozen(params.probe, params.seed, stages).results


if __name__ == "__main__":
    main()
