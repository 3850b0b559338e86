"""The synthetic source: photographs of people who do not exist, in an archive laid out as VGGFace2 is.

`train/n000001/0001_01.jpg`, `test/…`, `bb_landmark/loose_bb_{train,test}.csv`, `identity_meta.csv`. About one photograph
in a hundred is spoiled the way real sets are. The same seed gives the same bytes, on any number of cores.
"""

import io
import multiprocessing
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from PIL import Image

from facerep.errors import FacerepError
from facerep.files import atomic
from facerep.progress import progress_bar
from facerep.synthetic_face import draw_identity, draw_photograph, draw_scene

DEFAULTS = {"train_identities": 160, "test_identities": 40, "photos": 30, "seed": 0}
# What spoils a photograph, and how often; together one in a hundred.
SPOILS = {"truncated": 0.002, "grey": 0.0015, "cmyk": 0.0015, "exif": 0.002, "png": 0.0015, "duplicate": 0.0015}
GIVEN = ("Ada", "Bela", "Chidi", "Dana", "Emre", "Farah", "Goran", "Hana", "Ines", "Jun", "Kofi", "Lena", "Mio", "Nia")
FAMILY = ("Abe", "Brandt", "Costa", "Diallo", "Eriksen", "Fontaine", "Gupta", "Horvat", "Ito", "Jansen", "King, Jr.")
Drawn = tuple[str, bytes, tuple[int, int, int, int]]  # name without suffix, the file's bytes, the face's box


class _Task(NamedTuple):
    seed: int
    split: str
    number: int  # of the identity, from 1
    first: int  # the number of the split's first identity
    photos: int  # of an identity on average


def parse_url(url: str) -> dict[str, int]:
    """The settings in `synthetic://faces.tar?train_identities=160&test_identities=40&photos=30&seed=0`.

    What is not given has its default. Raises FacerepError for an unknown key or a value that is no whole number.
    """
    settings = dict(DEFAULTS)
    for key, value in parse_qsl(urlsplit(url).query, keep_blank_values=True):
        if key not in settings:
            raise FacerepError(f"{url}: unknown key {key}; known: {', '.join(settings)}.")
        if not (value.isascii() and value.isdigit()):
            raise FacerepError(f"{url}: {key} = {value!r} must be a whole number, 0 or more.")
        settings[key] = int(value)
    if settings["photos"] < 1 or settings["train_identities"] + settings["test_identities"] < 1:
        raise FacerepError(f"{url}: photos and at least one number of identities must be 1 or more.")
    return settings


def write_archive(
    path: Path, *, train_identities: int, test_identities: int, photos: int, seed: int, workers: int | None = None
) -> None:
    """Draw the archive, an uncompressed tar, with the CSVs first.

    Args:
        photos: of an identity on average; each has 30 % more or fewer.
        workers: processes; None: one a core. No byte depends on them.
    """
    tasks = [_Task(seed, "train", n, 1, photos) for n in range(1, train_identities + 1)]
    first = train_identities + 1
    tasks += [_Task(seed, "test", n, first, photos) for n in range(first, first + test_identities)]
    boxes = {"train": ["NAME_ID,X,Y,W,H\n"], "test": ["NAME_ID,X,Y,W,H\n"]}
    meta = ["Class_ID, Name, Sample_Num, Flag, Gender\n"]
    # The boxes come first but are known last: the photographs wait in a file, so that memory stays small.
    with atomic(path) as part, tempfile.TemporaryFile(dir=part.parent) as spool, progress_bar() as bar:
        progress = bar.add_task("drawing faces", total=len(tasks))
        for task, drawn in zip(tasks, _draw_all(tasks, workers), strict=True):
            bar.update(progress, advance=1)
            for name, data, (x, y, w, h) in drawn:
                _add(spool, f"{task.split}/{name}.jpg", data)
                boxes[task.split].append(f'"{name}",{x},{y},{w},{h}\n')
            flag = int(task.split == "train")
            meta.append(f'n{task.number:06d}, "{person_name(seed, task.number)}", {len(drawn)}, {flag}, x\n')
        spool.seek(0)
        with part.open("wb") as archive:
            for split, lines in boxes.items():
                _add(archive, f"bb_landmark/loose_bb_{split}.csv", "".join(lines).encode())
            _add(archive, "identity_meta.csv", "".join(meta).encode())
            shutil.copyfileobj(spool, archive, 2**20)
            archive.write(b"\0" * 2 * tarfile.BLOCKSIZE)


def person_name(seed: int, number: int) -> str:
    """A made-up name; some hold a comma, as in VGGFace2's list."""
    rng = np.random.default_rng([seed, number, 1])
    return f"{GIVEN[int(rng.integers(len(GIVEN)))]}_{FAMILY[int(rng.integers(len(FAMILY)))].replace(' ', '_')}"


def draw_identity_photographs(task: _Task) -> list[Drawn]:
    """All photographs of one identity, drawn from seed, identity and photograph alone."""
    out = []
    for photo in range(1, _photo_count(task.seed, task.number, task.photos) + 1):
        spoil = _spoil(task, photo)
        data, box = _render(task, photo, spoil)
        out.append((f"n{task.number:06d}/{photo:04d}_01", data, box))
    return out


def _photo_count(seed: int, number: int, photos: int) -> int:
    return max(1, round(photos * np.random.default_rng([seed, number, 2]).uniform(0.7, 1.3)))


def _spoil(task: _Task, photo: int) -> str | None:
    """How a photograph is spoiled, if it is; the first identity of a split has nobody to be a duplicate of."""
    u = float(np.random.default_rng([task.seed, task.number, 3, photo]).random())
    for kind, share in SPOILS.items():
        if u < share:
            return None if kind == "duplicate" and task.number == task.first else kind
        u -= share
    return None


def _render(task: _Task, photo: int, spoil: str | None) -> tuple[bytes, tuple[int, int, int, int]]:
    """One photograph as a file, and the box of its face."""
    if spoil == "duplicate":  # of the identity before, that is of a photograph which is not spoiled itself
        other = task._replace(number=task.number - 1)
        clean = [k for k in range(1, _photo_count(task.seed, other.number, task.photos) + 1) if not _spoil(other, k)]
        if clean:
            return _render(other, clean[photo % len(clean)], None)
    rng = np.random.default_rng([task.seed, task.number, 4, photo])
    scene = draw_scene(rng)
    image, box = draw_photograph(draw_identity(np.random.default_rng([task.seed, task.number, 0])), scene, rng)
    return spoiled_file(image, scene.quality, spoil), box


def spoiled_file(image: Image.Image, quality: int, spoil: str | None) -> bytes:
    """The bytes of a photograph, spoiled in one of the ways of SPOILS (a duplicate is spoiled by where it lies)."""
    out = io.BytesIO()
    if spoil == "png":
        image.save(out, "PNG")
    elif spoil == "exif":  # the pixels lie on their side, and a tag says so
        exif = Image.Exif()
        exif[0x0112] = 6
        image.transpose(Image.Transpose.ROTATE_90).save(out, "JPEG", quality=quality, exif=exif)
    else:
        mode = {"grey": "L", "cmyk": "CMYK"}.get(spoil or "", "RGB")
        image.convert(mode).save(out, "JPEG", quality=quality)
    data = out.getvalue()
    return data[: len(data) * 2 // 5] if spoil == "truncated" else data


def _draw_all(tasks: list[_Task], workers: int | None) -> Iterator[list[Drawn]]:
    """The photographs of each identity in order, drawn on all cores."""
    workers = workers or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    context = multiprocessing.get_context("spawn" if os.name == "nt" else "forkserver")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        step = 16 * workers  # so that few identities wait in memory
        for start in range(0, len(tasks), step):
            yield from pool.map(draw_identity_photographs, tasks[start : start + step])


def _add(file: IO[bytes], name: str, data: bytes) -> None:
    """Append one member to a tar: time 0, no owner."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    file.write(member.tobuf(tarfile.USTAR_FORMAT))
    file.write(data)
    file.write(b"\0" * (-len(data) % tarfile.BLOCKSIZE))
