"""A training step of facerep's, against the plain way and against timm's network, on one resident batch.

grayscale: against pooled features → Linear to all pixels, fp32, NCHW, Adam. Images/s, and each process's peak memory.
rotated: against transformers' ConvNext in eager fp32 NCHW, and against timm's network of the same size in a bare loop
in our precision and layout. Ours crops, mirrors, turns, scores and clips in the time that is measured; timm's does not.
With --device cuda: see benchmarks/on_device.py.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import on_device, peer_packages, steps
from benchmarks.common import MEASURED, Case, arguments, conclude, on_a_device, reached, row_of, show
from benchmarks.variants import interleaved

CASES = {"grayscale": ["base:224:8"], "rotated": ["atto:64:64", "atto:96:64"]}
OURS, PLAIN, TIMM, BARE = "facerep", "the plain way", "timm, bare loop", "facerep, bare loop"


def main(given: list[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__, repeats=5, seconds=2.0)
    for pretext in CASES:
        parser.add_argument(f"--{pretext}", type=Case.parse, nargs="*", metavar="MODEL:SIZE:BATCH")
    on_a_device(parser, "all by turns in one process there, larger networks and batches, the share of its peak too")
    parser.add_argument("--without", nargs="+", default=[], metavar="NAME", help="with --device: variants to leave out")
    peer_packages.add_argument(parser)
    options = parser.parse_args(given)
    for pretext, cases in (on_device.CASES if options.device else CASES).items():
        if getattr(options, pretext) is None:
            setattr(options, pretext, [Case.parse(case) for case in cases])
    if options.device:
        on_device.steps_on(options.device, options)
        return
    ratios: dict[str, float] = {}
    for case in options.grayscale:
        ratios |= grayscale(case, options)
    for case in options.rotated:
        ratios |= rotated(case, options)
    conclude("train_step", options.threads, ratios)


def grayscale(case: Case, options: argparse.Namespace) -> dict[str, float]:
    """The ratios of speed and of memory."""
    kinds = {
        OURS: (steps.ours, "grayscale", case, options.threads),
        PLAIN: (steps.plain_grayscale, case, options.threads),
    }
    with interleaved(kinds, options.repeats, options.seconds) as variants:
        ours, plain = variants[OURS], variants[PLAIN]
        speed, memory = ours.median / plain.median, ours.peak_mb / plain.peak_mb
        rows = [
            row_of(ours, *reached(speed, at_least=4), *reached(memory, at_most=0.5)),
            row_of(plain, "", "", "", ""),
        ]
    title = f"grayscale, ConvNeXt {case.model}, {case.image_size} px, batch {case.batch_size}"
    show(title, [*MEASURED, "speed", "reach", "memory", "reach"], rows)
    return {f"grayscale_{case}_speed": speed, f"grayscale_{case}_memory": memory}


def rotated(case: Case, options: argparse.Namespace) -> dict[str, float]:
    """The ratios of speed."""
    kinds = {
        OURS: (steps.ours, "rotated", case, options.threads),
        PLAIN: (steps.plain_rotated, case, options.threads),
        TIMM: (steps.timm_bare, case, options.threads, options.peers),
        BARE: (steps.ours_bare, "rotated", case, options.threads),
    }
    with interleaved(kinds, options.repeats, options.seconds, optional=[TIMM]) as variants:
        speed = {name: variant.median for name, variant in variants.items()}
        against = {"transformers": speed[OURS] / speed[PLAIN], "timm": speed[OURS] / speed[TIMM]}
        bare = speed[BARE] / speed[TIMM]
        rows = [
            row_of(variants[OURS], "", ""),
            row_of(variants[PLAIN], *reached(against["transformers"], at_least=1.7)),
            row_of(variants[TIMM], *reached(against["timm"], at_least=1)),
            row_of(variants[BARE], *reached(bare)),
        ]
    title = f"rotated, ConvNeXt {case.model}, {case.image_size} px, batch {case.batch_size}"
    show(title, [*MEASURED, "facerep is × as fast", "reach"], rows)
    return {
        f"rotated_{case}_vs_transformers": against["transformers"],
        f"rotated_{case}_vs_timm": against["timm"],
        f"rotated_{case}_bare_vs_timm": bare,
    }


if __name__ == "__main__":
    main()
