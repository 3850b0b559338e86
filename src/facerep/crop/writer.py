"""Faces into plain tar shards (WebDataset's layout), one after the other. facerep.faces.shards reads them."""

import os
from pathlib import Path
from typing import BinaryIO

from facerep.archives.writer import TarWriter


class ShardWriter:
    """Write JPEGs into shard-000000.tar, shard-000001.tar, …; a shard is closed when it passes `shard_mb` MiB.

    The same faces give the same bytes: headers hold no time and no owner. `shards` are there already, and stay.
    """

    def __init__(self, folder: Path, shard_mb: float, shards: int = 0) -> None:
        self.folder = folder
        self.limit = shard_mb * 2**20
        self.shards = shards
        self._open: tuple[BinaryIO, TarWriter] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the last shard waits for more."""
        return self._open is not None

    def add(self, key: str, jpeg: bytes) -> tuple[str, int, int]:
        """Append `<key>.jpg`; the shard's name, and offset and length of the JPEG's bytes in it."""
        if self._open is None:
            file = (self.folder / f"shard-{self.shards:06d}.tar").open("wb")
            self._open = file, TarWriter(file)
            self.shards += 1
        _, tar = self._open
        offset = tar.add(f"{key}.jpg", jpeg)
        shard = f"shard-{self.shards - 1:06d}.tar"
        if tar.size >= self.limit:
            self.close()
        return shard, offset, len(jpeg)

    def close(self) -> None:
        """Finish the open shard; it is on the disk then, also should the power fail."""
        if self._open is not None:
            file, tar = self._open
            with file:
                tar.finish()
                file.flush()
                os.fsync(file.fileno())
            self._open = None
