"""What more views would give: a power law through what `benchmarks.pretexts` has measured at several lengths.

`for n in 1 2 4 8; do python -m benchmarks.pretexts simclr pretrain.epochs=$n | tail -1 >> views.jsonl; done`, then
`python -m benchmarks.views views.jsonl`. Each length has a whole schedule of its own: an epoch in the middle of a longer
one says less than it could. The law is score = top - fall · views^-rate, as errors fall with data (Hestness et al., "Deep
learning scaling is predictable, empirically", 2017). How far to trust it is told beside it: the longest as the others
foretell it.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from scipy.optimize import minimize_scalar

from benchmarks.common import show
from benchmarks.pretexts import MEASURES

FURTHER = (2, 4, 10)  # times the most views
SLOWEST, FASTEST = 0.01, 3.0  # rate: at the slowest all but the logarithm


def main(given: list[str] | None = None) -> None:
    """Read, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "file", type=Path, help="closing lines of benchmarks.pretexts, of one pretext at several lengths"
    )
    lines = [json.loads(line) for line in parser.parse_args(given).file.read_text(encoding="utf-8").splitlines()]
    if len({line["views"] for line in lines}) < 4:
        parser.error("a law of three numbers wants four lengths, and one more is better")
    lines.sort(key=lambda line: line["views"])
    views = np.array([line["views"] for line in lines], float)
    # of the stages the best in the longest
    scores = np.array([[[float(cell) for cell in row[1:]] for row in line["rows"]] for line in lines])
    scores = scores[:, scores[-1].mean(1).argmax()]
    columns = ["views", *MEASURES]
    show("measured", columns, [[f"{n:,.0f}", *map("{:.1f}".format, row)] for n, row in zip(views, scores, strict=True)])
    rows = []
    for measure, of in zip(MEASURES, scores.T, strict=True):
        law, fewer = power_law(views, of), power_law(views[:-1], of[:-1])
        further = [f"{law(n * views[-1]):.1f}" for n in FURTHER]
        rows.append([measure, f"{of[-1]:.1f}", f"{fewer(views[-1]):.1f}", *further])
    show("a power law", ["measure", "longest", "as foretold", *(f"{n} times" for n in FURTHER)], rows)
    print(json.dumps({"benchmark": "views", "views": views.tolist(), "rows": rows}))


class Law(NamedTuple):
    """score = top - fall · (views / scale)^-rate."""

    top: float
    fall: float
    rate: float
    scale: float

    def __call__(self, views: float) -> float:
        """The score after so many views."""
        return float(self.top - self.fall * (views / self.scale) ** -self.rate)


def power_law(views: np.ndarray, scores: np.ndarray) -> Law:
    """The least squares fit: for each rate the rest is a straight line, and so the best rate is sought alone."""
    scale = float(views.min())

    def line(rate: float) -> tuple[np.ndarray, float]:
        known = np.stack([np.ones_like(views), -((views / scale) ** -rate)], 1)
        best = np.linalg.lstsq(known, scores, rcond=None)[0]
        return best, float(((known @ best - scores) ** 2).sum())

    rates = np.geomspace(SLOWEST, FASTEST, 200)
    near = int(np.argmin([line(rate)[1] for rate in rates]))
    bounds = rates[max(near - 1, 0)], rates[min(near + 1, len(rates) - 1)]
    rate = float(minimize_scalar(lambda rate: line(rate)[1], bounds=bounds, method="bounded").x)
    (top, fall), _ = line(rate)
    return Law(float(top), float(fall), rate, scale)


if __name__ == "__main__":
    main()
