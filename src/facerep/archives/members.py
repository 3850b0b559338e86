"""The files of an archive: which of them pass, and under what names."""

import re
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from facerep.archives.junk import junk_kind
from facerep.core.errors import FacerepError

PLAIN = (".csv", ".txt")  # lists and boxes that may lie beside the archives


class Member(NamedTuple):
    """One file of an archive: its name, parts joined by "/", and its bytes."""

    name: str
    data: bytes


class Gate(NamedTuple):
    """Which members pass."""

    path: Path
    wanted: Callable[[str], bool]
    max_bytes: int
    refused: Callable[[str, str], None] | None
    junk: Counter[str] | None

    def passes_over(self, name: str) -> bool:
        """Whether it is what a tool left, which is counted."""
        kind = junk_kind(name.split("/"))
        if kind is not None and self.junk is not None:
            self.junk[kind] += 1
        return kind is not None

    def lets_in(self, name: str, raw: str, size: int, problem: str | None) -> bool:
        """Whether the member is to be read."""
        parts = raw.replace("\\", "/").split("/")
        if not parts[0] or "\0" in raw or re.match("[A-Za-z]:", raw) or ".." in parts:
            problem = "has a name that leads out of the archive"
        elif "\\" in raw:
            problem = problem or "has a backslash in its name, which parts folders on one system and not on another"
        if problem and self.refused is None:
            self.refuse(raw, problem)
        if not self.wanted(name):
            return False
        if size > self.max_bytes:
            problem = problem or f"has {size:,} bytes, more than the {self.max_bytes:,} that one member may have"
        if problem:
            self.refuse(name, problem)
        return not problem

    def refuse(self, name: str, problem: str) -> None:
        """Tell of it, or raise."""
        if self.refused is None:
            raise FacerepError(f"{self.path}: member {name!r} {problem}; pack the archive again without it.")
        self.refused(name, problem)


def clean(raw: str) -> str:
    """The name without "." and empty parts, and without what could lead out of the archive."""
    if "\\" in raw or "\0" in raw:
        raw = raw.replace("\\", "/").replace("\0", "")
    name = "/".join(part for part in raw.split("/") if part not in ("", ".", ".."))
    return name if name.isascii() else name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def what_is(mode: int) -> str:
    """What is neither a file nor a folder, by its mode."""
    return "a link" if stat.S_ISLNK(mode) else "a device or pipe"
