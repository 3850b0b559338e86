"""Two folders with fifteen troubles that people have on their disks, all at once."""

import unicodedata
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.pictures import picture

EACH = 14  # photographs of a class


def save(path: Path, number: int, **options: object) -> Path:
    """Picture `number` of a set in which no two look alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(number, 64, 64).save(path, **options)  # type: ignore[arg-type]
    return path


def write_troubles(root: Path) -> tuple[Path, Path]:
    """The folders `labelled` and `pool`."""
    labelled, pool = root / "labelled", root / "pool"
    for n in range(4 * EACH):
        save(labelled / "ant" / f"{n}.jpg", n)  # four times as many as the other classes: uneven
    for n in range(4):
        save(labelled / "ant" / f"{n}.png", 100 + n)  # the stems of others
        save(labelled / "ant" / ".ipynb_checkpoints" / f"{n}-checkpoint.jpg", n)  # Jupyter's copies
    for n in range(EACH):
        save(labelled / "bee" / f"{n}.jfif", 200 + n, format="JPEG")  # as Windows saves
        save(labelled / "bee" / "@eaDir" / f"{n}.jfif" / "SYNOPHOTO_THUMB_XL.jpg", 200 + n)  # a Synology's thumbnails
        form = "NFC" if n % 2 else "NFD"
        save(labelled / unicodedata.normalize(form, "café") / f"{n}.jpg", 300 + n)  # from Linux and from a Mac
        save(labelled / ("dog" if n % 2 else "Dog") / f"{n}.jpg", 400 + n)  # seven each
        save(labelled / "emu" / f"{n}.avif", 500 + n)  # not read
        grey = np.asarray(picture(600 + n, 64, 64).convert("L")).astype(np.uint16)
        (labelled / "fox").mkdir(exist_ok=True)
        Image.fromarray(grey * 16).save(labelled / "fox" / f"{n}.png")  # 12 bits in 16
    for n in range(EACH // 2):  # classes that are none
        for place, name in enumerate(("gnu", "hen")):
            for kind in ("images", "masks"):
                save(labelled / name / kind / f"{name}{n}.png", 700 + 100 * place + 50 * (kind == "masks") + n)
    (labelled / "yak").mkdir()
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"
    (labelled / "bee" / "99.jpg").write_text(pointer)
    for n in range(40):
        save(pool / f"{n}.jpg", 2000 + n)
    for n in (0, 1, 2, 3, 4, 6):  # copies of labelled ones on their side, and mirrored
        turned = picture(n, 64, 64).transpose(Image.Transpose.ROTATE_90 if n % 2 else Image.Transpose.FLIP_LEFT_RIGHT)
        turned.save(pool / f"copy {n}.jpg", quality=90)
    for n in range(3):
        (pool / f"{n}.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (pool / "clip.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    return labelled, pool
