"""download: the archives as published, checked by their sha256."""

from pathlib import Path

from facerep.download.stage import download
from stages import run

if __name__ == "__main__":
    run("download", lambda params: download(params.download, Path("data/raw")))
