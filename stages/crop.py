"""crop: square faces as JPEG in tar shards, with an index."""

from pathlib import Path

from facerep.crop.catalogue import raw_files
from facerep.crop.stage import crop
from stages import run

if __name__ == "__main__":
    run(
        "crop",
        lambda params: crop(params.crop, raw_files(Path("data/raw")), Path("data/faces"), params.select.per_identity),
    )
