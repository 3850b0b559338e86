"""What of a crop is worth a sentence: nothing is refused for it, but somebody has to look."""

from facerep.crop.catalogue import FirstPass
from facerep.crop.depth import Depth

_FEW, _SHARE = 3, 0.02  # so many faces, and such a share of them, may be nearly black or white without a word


def notes_of(first: FirstPass, faces: int, black: int, white: int, boxes_unused: int, depth: Depth | None) -> list[str]:
    """Sentences for metrics/crop.json, the terminal and a study's page."""
    notes = list(first.folders.notes())
    for count, tone in ((black, "black"), (white, "white")):
        if count > max(_FEW, _SHARE * faces):
            notes.append(
                f"{count:,} of {faces:,} faces are nearly {tone}: look at the samples of the classes, and at how the "
                "photographs were saved."
            )
    if depth is not None:
        notes.append(f"Pictures of more than 8 bits are scaled by what a sample of the set uses: {depth}.")
    boxes = sum(map(len, first.boxes.values()))
    if boxes_unused:
        notes.append(
            f"{boxes_unused:,} of {boxes:,} boxes fit no photograph: a box is named <folder>/<photograph>, with or without "
            f"suffix{_example(first)}."
        )
    return notes


def _example(first: FirstPass) -> str:
    return f", such as {first.folders.example}" if first.folders.example else ""
