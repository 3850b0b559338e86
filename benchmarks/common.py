"""What the scripts share: arguments, the machine, the table and the closing line of JSON."""

import argparse
import json
import math
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.variants import Measured
from facerep.core.cores import cores
from facerep.core.files import write_json
from facerep.nets.convnext import SIZES
from facerep.params import Params
from facerep.presets import params_with
from facerep.training.runtime import has_bf16

ROOT = Path(__file__).resolve().parents[1]


def preset(name: str) -> Params:
    """The repository's params.yaml with a preset's values."""
    return params_with(name, ROOT / "params.yaml", ROOT / "presets")


class Case(NamedTuple):
    """A network and what it is fed: `atto:64:64` on the command line."""

    model: str  # of facerep.nets.convnext.SIZES
    image_size: int  # side, pixels
    batch_size: int

    @classmethod
    def parse(cls, text: str) -> "Case":
        """MODEL:SIZE:BATCH. Raises argparse.ArgumentTypeError, as argparse wants it."""
        try:
            model, size, batch = text.split(":")
            case = cls(model, int(size), int(batch))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not MODEL:SIZE:BATCH, such as atto:64:64") from None
        if model not in SIZES or case.image_size < 32 or case.image_size % 16 or case.batch_size < 2:
            raise argparse.ArgumentTypeError(
                f"{text!r}: MODEL is one of {', '.join(SIZES)}, SIZE a multiple of 16 from 32 on, BATCH 2 or more"
            )
        return case

    def __str__(self) -> str:
        return f"{self.model}_{self.image_size}"


def arguments(text: str | None, repeats: int, seconds: float) -> argparse.ArgumentParser:
    """A parser with what every script takes; `text` is the script's docstring."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter, epilog="Defaults suit 2 CPU cores."
    )
    parser.add_argument("--threads", type=int, default=cores(), help="of every variant (default: the cores)")
    parser.add_argument("--repeats", type=int, default=repeats, help=f"measured runs of each (default: {repeats})")
    parser.add_argument("--seconds", type=float, default=seconds, help=f"of a run, at least (default: {seconds:g})")
    return parser


def machine(threads: int, device: str = "cpu") -> dict[str, Any]:
    """What the ratios were measured on."""
    about = {
        "processor": _processor(),
        "cores": cores(),
        "threads": threads,
        "bf16_units": has_bf16("cpu"),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if device == "cuda":
        here = torch.cuda.get_device_properties(0)
        about |= {"gpu": here.name, "gpu_mb": here.total_memory // 2**20, "driver": _driver()}
        about |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return about


def _driver() -> str | None:
    """NVIDIA's, as the kernel has it."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        return None
    found = re.search(r"\b\d+\.\d+(\.\d+)?\b", text)
    return found[0] if found else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is text, the others are numbers."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else 120
    Console(width=width).print(table)


MEASURED = ("", "images/s", "best", "peak MiB")  # the columns of row_of


def row_of(work: Measured, *more: str) -> list[str]:
    """Name, images/s (median and best), peak memory, and what else there is."""
    name = f"{work.name}: {work.failed}" if work.failed else work.name
    return [name, number(work.median), number(max(work.rates)), number(work.peak_mb), *more]


def number(value: float) -> str:
    """Three digits or more."""
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def reached(ratio: float, at_least: float | None = None, at_most: float | None = None) -> list[str]:
    """The cells for a ratio and what it should reach."""
    wanted = f"≥ {at_least:g}" if at_least is not None else f"≤ {at_most:g}" if at_most is not None else ""
    return [number(ratio), wanted]


def closing(name: str, threads: int, ratios: dict[str, float], device: str = "cpu", **more: Any) -> dict[str, Any]:
    """The closing line: `benchmark`, `machine`, `ratios` (null where not measured), and what else."""
    rounded = {key: None if math.isnan(value) else round(value, 4) for key, value in ratios.items()}
    return {"benchmark": name, "machine": machine(threads, device), "ratios": rounded, **more}


def conclude(name: str, threads: int, ratios: dict[str, float], **more: Any) -> None:
    """Print the closing line, as JSON."""
    save(closing(name, threads, ratios, **more), None, shown=True)


def save(line: dict[str, Any], path: Path | None, shown: bool = False) -> None:
    """Write a closing line to a file, if one is named, and print it if asked."""
    if path is not None:
        write_json(path, line)
    if shown:
        print(json.dumps(line), flush=True)


def on_a_device(parser: argparse.ArgumentParser, text: str) -> None:
    """--device, and --json for what then takes long enough to be cut short."""
    parser.add_argument("--device", choices=["cpu", "cuda"], help=text)
    parser.add_argument("--json", type=Path, metavar="FILE", help="with --device: the closing line, as far as it is")
