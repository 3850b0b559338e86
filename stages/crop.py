"""crop: square faces as JPEG in tar shards, with an index."""

from pathlib import Path

from facerep.crop import crop
from facerep.photographs import raw_files
from stages import run

if __name__ == "__main__":
    run(
        "crop",
        lambda params: crop(
            params.active.crop, raw_files(Path("data/raw")), Path("data/faces"), params.active.select.per_identity
        ),
    )
