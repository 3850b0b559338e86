"""What a file's name in an archive says: whose photograph it is, and under which key it is kept."""

import re
import unicodedata
from hashlib import blake2b
from pathlib import PurePosixPath
from typing import NamedTuple

from facerep.crop.decode import SUFFIXES
from facerep.faces.shards import UNLABELLED

SPLITS = ("train", "test")
_UNLABELLED = (UNLABELLED, "unlabeled")  # in American spelling, too; compared without regard to case
SLASH, DOT = "∕", "·"  # in a key, whose own end a name and WebDataset's key


class Place(NamedTuple):
    """Where a photograph belongs. Its key is `<split>/<identity>/<stem>`; both identity and stem may need their long form.

    The split is `train` or `test` where the folder above the identity is called so, else `all`. Below a folder called
    `unlabelled` every photograph is an identity of its own, whatever folders it lies in, and the split is `unlabelled`.
    """

    split: str
    identity: str  # the folder right above, composed (NFC): Linux writes it so, macOS may not
    stem: str  # a dot in it becomes `_`, since WebDataset's key ends at the first dot
    folders: tuple[str, ...]  # above the identity, without the split; of an unlabelled photograph all
    file: str
    spelled: str = ""  # a few digits of how the name was written, where that was not composed

    @property
    def key(self) -> str:
        """What a photograph is called, unless another is called so too."""
        return f"{self.split}/{self.identity}/{self.stem}"

    def long_key(self, archive: str) -> str:
        """What it is called where others have its key: with archive, folders and suffix, which no two share."""
        own = SLASH.join((archive, *self.folders, self.file + self.spelled)).replace(".", DOT)
        if self.split == UNLABELLED:
            return f"{self.split}/{own}/{self.file.replace('.', DOT)}"
        return f"{self.split}/{self.identity}/{own}"


def place_of(name: str) -> Place | None:
    """Where the photograph of this name in an archive belongs; None for what is no photograph of an identity."""
    spelled = ""
    if not name.isascii() and (composed := unicodedata.normalize("NFC", name)) != name:
        spelled = f".{blake2b(name.encode(), digest_size=3).hexdigest()}"
        name = composed
    *above, file = [part for part in name.split("/") if part not in ("", ".")] or [""]
    stem, _, suffix = file.rpartition(".")
    if not stem or f".{suffix.lower()}" not in SUFFIXES:
        return None
    stem = stem.replace(".", "_")
    start = next((n for n, part in enumerate(above) if part.lower() in _UNLABELLED), None)
    if start is not None:
        identity = SLASH.join((*above[start + 1 :], stem)).replace(".", "_")
        return Place(UNLABELLED, identity, stem, tuple(above), file, spelled)
    if not above or above[-1] in SPLITS:
        return None
    has_split = len(above) > 1 and above[-2] in SPLITS
    split, folders = (above[-2], above[:-2]) if has_split else ("all", above[:-1])
    return Place(split, above[-1], stem, tuple(folders), file, spelled)


def place_in(archive: str, name: str) -> Place | None:
    """As place_of; in an archive that is itself called `unlabelled.tar`, or likewise, all photographs are unlabelled."""
    place = place_of(name)
    if archive.split(".")[0].lower() in _UNLABELLED and (place is None or place.split != UNLABELLED):
        return place_of(f"{UNLABELLED}/{name}")
    return place


def key_of(name: str) -> str | None:
    """The short key of a photograph's name in an archive; None for what is no photograph."""
    place = place_of(name)
    return place.key if place is not None else None


def boxes_split(name: str) -> str | None:
    """`train`, `test` or `all` for a box CSV (`loose_bb_test.csv`, `loose_bb_test.head.csv`, `loose_bb.csv`), else None."""
    match = re.fullmatch(r"loose_bb(?:_(train|test))?\b.*\.csv", PurePosixPath(name).name.lower())
    return (match[1] or "all") if match else None
