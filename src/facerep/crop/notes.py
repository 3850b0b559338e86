"""What of a crop is worth a sentence: nothing is refused for it, but somebody has to look."""

from collections import Counter
from collections.abc import Iterator, Mapping

from facerep.crop.catalogue import FirstPass
from facerep.crop.depth import Depth
from facerep.crop.folders import Class, listed

_FEW, _SHARE = 3, 0.02  # so many faces, and such a share of them, may be nearly black or white without a word
_MOSTLY = 0.5  # of a class


def notes_of(
    first: FirstPass,
    faces: Counter[Class],
    tones: Mapping[str, int],
    boxes: Mapping[str, int],
    outside: int,
    depth: Depth | None,
) -> list[str]:
    """Sentences for metrics/crop.json, the terminal and a study's page.

    Args:
        faces: of each class; all that are unlabelled are one.
        tones: faces that are nearly black or white, by `<tone>/<split>/<identity>`.
        boxes: how many are `unused`, `doubled` and `shared`; `outside` more do not touch their photograph.
    """
    notes = [*first.folders.notes(), *_tones(faces, tones)]
    if depth is not None:
        notes.append(f"Pictures of more than 8 bits are scaled by what a sample of the set uses: {depth}.")
    every = sum(map(len, first.boxes.values()))
    if boxes.get("unused"):
        notes.append(
            f"{boxes['unused']:,} of {every:,} boxes fit no photograph: a box is named <folder>/<photograph>, with or "
            f"without suffix, such as {first.folders.example}."
        )
    if boxes.get("doubled"):
        notes.append(f"{boxes['doubled']:,} of {every:,} boxes are followed by another of the same name, which counts.")
    if boxes.get("shared"):
        notes.append(
            f"{boxes['shared']:,} boxes fit several photographs each, which cannot all be meant: name them with more of the "
            "path, or with the suffix."
        )
    if outside:
        notes.append(
            f"{outside:,} boxes lie outside of their photographs, which are cut as if they had none: boxes are in pixels of "
            "the photograph as it is stored."
        )
    return notes


def _tones(faces: Counter[Class], tones: Mapping[str, int]) -> Iterator[str]:
    """What is nearly black or white: of the whole set, or most of some classes."""
    for tone in ("black", "white"):
        counts = {
            (of.split("/")[1], of.split("/")[2]): n for of, n in sorted(tones.items()) if of.startswith(f"{tone}/")
        }
        total = sum(counts.values())
        mostly = [of[1] or of[0] for of, n in counts.items() if n > max(_FEW, _MOSTLY * faces[of])]
        if mostly or total > max(_FEW, _SHARE * sum(faces.values())):
            where = f", and most of {listed(mostly)}" if mostly else ""
            yield (
                f"{total:,} of {sum(faces.values()):,} faces are nearly {tone}{where}: look at the samples of the classes, "
                "and at how the photographs were saved."
            )
