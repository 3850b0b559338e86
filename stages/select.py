"""select: which faces are used, and for what."""

from pathlib import Path

from facerep.selection import select
from stages import run

if __name__ == "__main__":
    run(
        "select",
        lambda params: select(
            params.active.select, params.seed, Path("data/faces/index.parquet"), Path("data/selection.parquet")
        ),
    )
