"""From an archive of photographs to square faces: facerep's crop against the plain way, and against libjpeg-turbo alone.

The plain way is one process that does what a tutorial does: torchvision reads a file, cuts its middle, resizes it, makes it
float and saves it as a JPEG of its own. Bare is libjpeg-turbo on all cores: files read, decoded, torch's resize, encoded,
and nothing kept. facerep reads the tar, cuts on all cores, hashes, measures sharpness and writes shards with their index;
its start (processes, torch) is left out by taking the difference between many photographs and few.

Photographs: an archive of LFW where one is given or FACEREP_MIRROR has one, as they are (250 px) and enlarged to 500 px;
else faces that facerep draws.
"""

import io
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import simplejpeg
import torch
from PIL import Image

from benchmarks.common import arguments, conclude, number, preset, reached, show
from benchmarks.data import draw_faces, mirrored, write_tar
from facerep.archives.reader import read_members
from facerep.crop.names import key_of
from facerep.crop.resample import cut_square, resize
from facerep.crop.stage import crop
from facerep.params import Crop
from facerep.resume.unfinished import discard_finished

SIZE, QUALITY = 224, 95
REACH = {"plain": 3.0, "bare": 0.75}
FEW = 64  # photographs of the run that is taken off


def main(given: list[str] | None = None) -> None:
    """Measure and print."""
    parser = arguments(__doc__, repeats=3, seconds=0)
    parser.add_argument("--archive", type=Path, help="photographs in identity folders (default: LFW in FACEREP_MIRROR)")
    parser.add_argument("--photographs", type=int, default=2000, help="default: 2000")
    parser.add_argument("--sides", type=int, nargs="+", default=[250, 500], help="default: 250 500")
    options = parser.parse_args(given)
    ratios, rows = {}, []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FACEREP_SCRATCH"] = str(Path(folder) / "scratch")
        photos, source = _photographs(options.archive, options.photographs)
        for side in options.sides:
            rates = _measured(
                Path(folder), [_enlarged(photo, side) for photo in photos], options.repeats, options.threads
            )
            for other in ("plain", "bare"):
                pairs = zip(rates["facerep"], rates[other], strict=True)
                ratios[f"{side}_vs_{other}"] = statistics.median(a / b for a, b in pairs)
            for name, values in rates.items():
                wanted = reached(ratios[f"{side}_vs_{name}"], at_least=REACH[name]) if name in REACH else ["", ""]
                rows.append([f"{name}, {side} px", number(statistics.median(values)), number(max(values)), *wanted])
    columns = ["", "photographs/s", "best", "facerep is × as fast", "wanted"]
    show(f"{options.photographs:,} photographs ({source}) to {SIZE}×{SIZE}", columns, rows)
    conclude("crop", options.threads, ratios, photographs=options.photographs, source=source)


def _photographs(archive: Path | None, count: int) -> tuple[list[bytes], str]:
    """The JPEGs, and where they are from."""
    archive = archive or mirrored("lfw.tgz", "lfw-min2.tgz")
    if archive is None:
        return draw_faces(count, 250), "drawn"
    members = read_members(archive, lambda name: key_of(name) is not None)
    return [data for _, data in islice(members, count)], archive.name


def _enlarged(photo: bytes, side: int) -> bytes:
    image = Image.open(io.BytesIO(photo))
    if image.size == (side, side):
        return photo
    out = io.BytesIO()
    image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
    return out.getvalue()


def _measured(folder: Path, photos: list[bytes], repeats: int, threads: int) -> dict[str, list[float]]:
    """Photographs a second, each way by turns."""
    settings = preset("lfw").crop
    settings = settings.model_copy(update={"method": "center", "size": SIZE, "quality": QUALITY, "oversample": None})
    files = folder / "files"
    files.mkdir(exist_ok=True)
    paths = [files / f"{place:06d}.jpg" for place in range(len(photos))]
    for path, photo in zip(paths, photos, strict=True):
        path.write_bytes(photo)
    few, many = (write_tar(folder / f"{n}.tar", photos[:n], 50) for n in (min(FEW, len(photos) // 2), len(photos)))
    rates: dict[str, list[float]] = {"plain": [], "bare": [], "facerep": []}
    with ProcessPoolExecutor(threads, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(bare, [paths[:2]] * threads))  # its start is left out too
        _cut(settings, few, folder / "out", threads)  # starts the server that workers are forked from, once
        for repeat in range(repeats):
            rates["plain"].append(_rate(lambda: plain(files, folder / "plain"), len(photos)))
            rates["bare"].append(
                _rate(lambda: list(pool.map(bare, (paths[n::threads] for n in range(threads)))), len(photos))
            )
            seconds = [_cut(settings, tar, folder / f"out-{repeat}", threads) for tar in (few, many)]
            rates["facerep"].append((len(photos) - min(FEW, len(photos) // 2)) / max(1e-9, seconds[1] - seconds[0]))
    return rates


def _rate(work, count: int) -> float:  # type: ignore[no-untyped-def]
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def _cut(settings: Crop, tar: Path, out: Path, threads: int) -> float:
    discard_finished("crop")  # else it would not cut the same archive twice
    start = time.perf_counter()
    crop(settings, [tar], out, workers=threads)
    return time.perf_counter() - start


def plain(files: Path, out: Path) -> None:
    """One process, file by file."""
    from torchvision.io import read_image
    from torchvision.transforms.v2 import functional as tvf
    from torchvision.utils import save_image

    torch.set_num_threads(1)
    out.mkdir(exist_ok=True)
    for path in sorted(files.iterdir()):
        image = read_image(str(path))
        image = tvf.center_crop(image, [min(image.shape[1:])] * 2)
        image = tvf.resize(image, [SIZE, SIZE], antialias=True)
        save_image(image.float() / 255, out / path.name)


def bare(paths: list[Path]) -> int:
    """Decode, resize, encode."""
    torch.set_num_threads(1)
    size = 0
    for path in paths:
        pixels = simplejpeg.decode_jpeg(path.read_bytes(), "RGB")
        side = min(pixels.shape[:2])
        square = cut_square(pixels, ((pixels.shape[1] - side) // 2, (pixels.shape[0] - side) // 2, side))
        size += len(simplejpeg.encode_jpeg(resize(square, SIZE, SIZE), QUALITY, "RGB", "444"))
    return size


if __name__ == "__main__":
    main()
