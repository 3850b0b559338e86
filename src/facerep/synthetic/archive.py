"""The synthetic source: photographs of people who do not exist, in one archive laid out as VGGFace2 is.

`train/n000001/0001_01.jpg`, `test/…`, `bb_landmark/loose_bb_{train,test}.csv`, `identity_meta.csv`. About one photograph
in a hundred is spoiled the way real sets are. Every draw depends on seed, identity and photograph alone.
"""

import io
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from PIL import Image

from facerep.archives.writer import TarWriter
from facerep.core.errors import FacerepError
from facerep.core.files import atomic
from facerep.core.pool import ordered, processes
from facerep.core.progress import progress_bar
from facerep.synthetic.face import draw
from facerep.synthetic.people import draw_identity, draw_scene

VERSION = 1  # of what is drawn: one more whenever the same settings give other photographs
DEFAULTS = {"train_identities": 160, "test_identities": 40, "photos": 30, "seed": 0}
SPOILT = 0.01  # of all photographs
SPOILS = ("truncated", "grey", "cmyk", "turned", "png", "duplicate")  # equally often
FEMALE = ("Ada", "Chika", "Dana", "Farah", "Hana", "Ines", "Lena", "Mio", "Nia", "Olga", "Priya", "Rosa")
MALE = ("Abel", "Bela", "Chidi", "Emre", "Goran", "Ivo", "Jun", "Kofi", "Luis", "Marek", "Omar", "Sven")
FAMILY = (
    "Abe",
    "Brandt",
    "Costa",
    "Diallo",
    "Eriksen",
    "Fontaine",
    "Gupta",
    "Horvat",
    "Ito",
    "King,_Jr.",
    "Lund",
    "Moreau",
)
KILLED = "download: a process that draws faces was killed, most likely for want of memory; run the same command again."
Box = tuple[int, int, int, int]


class Split(NamedTuple):
    """Some identities of the archive, numbered through."""

    name: str  # train | test
    first: int
    size: int  # how many identities
    photos: int  # of an identity, on average
    seed: int


class Photo(NamedTuple):
    """A member of the archive."""

    key: str  # "n000001/0001_01"
    data: bytes
    box: Box


Chooser = Callable[[Split, int, int], str | None]


def parse_url(url: str) -> dict[str, int]:
    """The settings in `synthetic://faces.tar?train_identities=160&test_identities=40&photos=30&seed=0&version=1`.

    What is not given has its default. `version` is of the drawing, and pins what is drawn: a URL stands for the same
    photographs for ever, as far as processors round alike. Raises FacerepError for another version than VERSION, an unknown
    key, a key given twice, or a value that is no whole number from 0.
    """
    given: dict[str, int] = {}
    for key, value in parse_qsl(urlsplit(url).query, keep_blank_values=True):
        if key not in (*DEFAULTS, "version"):
            raise FacerepError(f"{url}: unknown key {key!r}; there are {', '.join(DEFAULTS)} and version.")
        if key in given:
            raise FacerepError(f"{url}: {key} is given twice; leave one of them.")
        if not (value.isascii() and value.isdigit()):
            raise FacerepError(f"{url}: {key}={value!r} is not a whole number from 0; give one.")
        given[key] = int(value)
    version = given.pop("version", VERSION)
    if version != VERSION:
        raise FacerepError(f"{url}: version={version} is not drawn by this facerep; write version={VERSION}.")
    return DEFAULTS | given


def write_archive(
    path: Path, *, train_identities: int, test_identities: int, photos: int, seed: int, workers: int | None = None
) -> None:
    """Draw the archive, one uncompressed tar, into `path`.

    Args:
        photos: of an identity, on average; each has up to 30 % more or fewer.
        workers: processes; None: one per core. No byte depends on them.
    """
    splits = [
        Split("train", 1, train_identities, photos, seed),
        Split("test", train_identities + 1, test_identities, photos, seed),
    ]
    path = Path(path)
    with atomic(path) as part, ExitStack() as stack:
        # the CSVs come first but are known last: all waits in files, so that memory stays small
        spool, meta, *boxes = (stack.enter_context(tempfile.TemporaryFile(dir=path.parent)) for _ in range(4))
        photographs = TarWriter(spool)
        meta.write(b"Class_ID, Name, Sample_Num, Flag, Gender\n")
        bar = stack.enter_context(progress_bar())
        task = bar.add_task("draw faces", total=train_identities + test_identities)
        for split, file in zip(splits, boxes, strict=True):
            file.write(b"NAME_ID,X,Y,W,H\n")
            numbers = range(split.first, split.first + split.size)
            identities = ordered(processes(workers), partial(draw_photographs, split), numbers, killed=KILLED)
            for number, drawn in stack.enter_context(closing(identities)):
                for photo in drawn:
                    photographs.add(f"{split.name}/{photo.key}.jpg", photo.data)
                    file.write(f'"{photo.key}",{",".join(map(str, photo.box))}\n'.encode())
                meta.write(_meta_row(split, number, len(drawn)).encode())
                bar.update(task, advance=1)
        with part.open("wb") as out, TarWriter(out, whole_records=False) as tar:  # as it has always been
            for split, file in zip(splits, boxes, strict=True):
                tar.add_file(f"bb_landmark/loose_bb_{split.name}.csv", file)
            tar.add_file("identity_meta.csv", meta)
            tar.add_members(spool)


def draw_photographs(split: Split, number: int) -> list[Photo]:
    """All photographs of the identity `number`."""
    count = photo_count(split, number)
    return [photograph(split, number, photo) for photo in range(1, count + 1)]


def photo_count(split: Split, number: int) -> int:
    """How many photographs an identity has."""
    share = np.random.default_rng([split.seed, number, 0, 1]).uniform(0.7, 1.3)
    return max(min(split.photos, 1), round(split.photos * share))


def spoil_of(split: Split, number: int, photo: int) -> str | None:
    """How a photograph is spoiled; None for nearly all. A lone identity has nobody to be a duplicate of."""
    rng = np.random.default_rng([split.seed, number, photo, 2])
    kind = SPOILS[int(rng.integers(len(SPOILS)))] if rng.random() < SPOILT else None
    return None if kind == "duplicate" and split.size < 2 else kind


def photograph(split: Split, number: int, photo: int, chosen: Chooser = spoil_of) -> Photo:
    """The `photo`-th photograph of the identity `number` (both from 1), spoiled as `chosen` says."""
    kind = chosen(split, number, photo)
    key = f"n{number:06d}/{photo:04d}_01"
    if kind == "duplicate":
        original = photograph(split, *_original(split, number, photo, chosen), chosen)
        return original._replace(key=key)
    scene = draw_scene(split.seed, number, photo)
    drawing = draw(draw_identity(split.seed, number), scene)
    return Photo(key, encode(drawing.image, scene.quality, kind), drawing.box)


def _original(split: Split, number: int, photo: int, chosen: Chooser) -> tuple[int, int]:
    """Identity and number of another one's first photograph that is no duplicate itself; the draw says where to begin."""
    rng = np.random.default_rng([split.seed, number, photo, 3])
    start = int(rng.integers(split.size - 1))
    for step in range(split.size - 1):
        other = split.first + (number - split.first + 1 + (start + step) % (split.size - 1)) % split.size
        for k in range(1, photo_count(split, other) + 1):
            if chosen(split, other, k) != "duplicate":
                return other, k
    raise ValueError("every photograph is a duplicate")


def encode(image: Image.Image, quality: int, kind: str | None) -> bytes:
    """A photograph's bytes: a JPEG, or spoiled as `kind` says (of SPOILS, but "duplicate")."""
    out = io.BytesIO()
    if kind == "png":
        image.save(out, "PNG")
    elif kind == "turned":  # the pixels lie on their side and a tag says so; its box refers to the upright photograph
        exif = Image.Exif()
        exif[0x0112] = 6
        image.transpose(Image.Transpose.ROTATE_90).save(out, "JPEG", quality=quality, exif=exif)
    else:
        image = image.convert({"grey": "L", "cmyk": "CMYK"}.get(kind or "", "RGB"))
        image.save(out, "JPEG", quality=quality)
    data = out.getvalue()
    return data[: len(data) // 2] if kind == "truncated" else data


def _meta_row(split: Split, number: int, count: int) -> str:
    """A row of identity_meta.csv; Flag is 1 for the training identities. Some names hold a comma, as VGGFace2's do."""
    woman = draw_identity(split.seed, number).woman
    rng = np.random.default_rng([split.seed, number, 0, 4])
    given, family = str(rng.choice(FEMALE if woman else MALE)), str(rng.choice(FAMILY))
    return f'n{number:06d}, "{given}_{family}", {count}, {int(split.name == "train")}, {"f" if woman else "m"}\n'
