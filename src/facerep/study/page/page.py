"""The page of a study: its figures, a table for a README, and one index.html that asks for nothing from anywhere."""

import base64
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from facerep.core.files import atomic, atomic_folder
from facerep.study.page import tables
from facerep.study.page.effort import effort_table, notes_of, spent
from facerep.study.page.figures import Figures, as_svg, draw_figures, slugs_of
from facerep.study.page.read import Results, Row, read_results
from facerep.study.page.tables import word_cell
from facerep.study.page.theme import variables
from facerep.study.page.words import MEASURES, duration, fixed, listed, size

HERE = Path(__file__).parent
# what a picture shows, for those who do not see it
PICTURES = {
    "turns": "Turned photographs of held-out {nouns}; under each the network's answer, and whether it is right.",
    "reconstructions": "Photographs of held-out {nouns}: the grey input, what the network gave back, the truth.",
    "views": "Photographs of held-out {nouns}, each in the two views that the network has to match.",
    "hardest_pairs": "Pairs of test photographs: two {nouns} taken for one, and one taken for two.",
    "neighbours": "Test photographs, each beside the training photograph nearest to it, which is of another {noun}.",
    "nearest": "Test photographs, each followed by the training photographs nearest to it; a tick marks the same {noun}.",
}
SLACK = 1e-9  # what is closer than this to chance is chance
PRETEXT_PICTURES = ("turns", "reconstructions", "views")


class Picture(NamedTuple):
    """A picture of photographs within the page."""

    name: str
    variant: str
    uri: str
    words: str


def render(results: Path, photographs: bool) -> None:
    """Write figures/*.svg, table.md and index.html into the results folder; the same files give the same bytes.

    index.html is one file that a browser shows without any request. With `photographs` the pictures in galleries/ are
    part of it; otherwise, and where they are not there, it says where a run puts them.

    Raises FacerepError where a file of the results is not there.
    """
    found = read_results(results)
    with atomic_folder(results / "figures") as folder:
        figures = draw_figures(found, folder)
        drawn = {part: Markup("").join(_figure(figure, folder) for figure in of) for part, of in figures.items()}
    text = _environment().get_template("page.html.jinja").render(_context(found, figures, drawn, photographs))
    with atomic(results / "table.md") as part:
        part.write_text(tables.markdown(found), encoding="utf-8")
    with atomic(results / "index.html") as part:
        part.write_text(text, encoding="utf-8")


def _of_one_run(found: Results) -> str:
    of = found.about.get("params_of")
    return "Parameters of the study" + (f", those of the run {of}" if of else "")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["breakable"] = lambda name: Markup("_<wbr>").join(escape(part) for part in name.split("_"))
    return environment


def _figure(figure: Any, folder: Path) -> Markup:
    drawings = [
        Markup('<div class="{}">{}</div>').format(f"panel {kind}".strip(), Markup(svg))
        for svg, kind in as_svg(figure, folder)
    ]
    return Markup("").join(drawings)


def _context(found: Results, figures: Figures, drawn: dict[str, Markup], photographs: bool) -> dict[str, Any]:
    """All that the template shows."""
    script = (HERE / "page.js").read_text(encoding="utf-8")
    pictures = _pictures(found) if photographs else []
    return {
        "found": found,
        "study": found.study,
        "verdict": found.verdict,
        "about": found.about,
        "slugs": slugs_of(found.variants),
        "drawn": drawn,
        "pictures": pictures,
        "compared": {name: _before_and_after(found, pictures, name) for name in PICTURES},
        "others": {name: _others(found, pictures, name) for name in PICTURES},
        "pretexts": _pretexts(found, drawn, pictures),
        "place": f"results/{found.study['name']}/galleries/",
        "saved": tables.saved_table(found),
        "beside": list(filter(None, [spent(found.about), *found.verdict.get("caveats", [])])),
        "effort": effort_table(found.about),
        "told": {name: notes_of(found.about, found.runs, name) for name in found.variants},
        "curve": _curve(found),
        "measure": MEASURES[found.measure],
        "levels": _levels(found),
        "below": _below_chance(found),
        "means": [tables.means_table(found, m) for m in (*found.measures, *found.further) if found.means(m)],
        "comparisons": [
            tables.comparison_table(found, m)
            for m in (*([m] for m in found.measures), ["auc", "eer"], *([m] for m in found.further))
        ],
        "ends": tables.ends_table(found),
        "scores": tables.pretext_table(found),
        "tuning": tables.tuning_tables(found),
        "as_text": tables.as_text,
        "roles": tables.roles_table(found),
        "dropped": tables.dropped_table(found),
        "classes": tables.classes_table(found),
        "class_picture": _classes(found, photographs),
        "passed_over": tables.passed_over_table(found),
        "notes": tables.notes(found),
        "wider": tables.ragged(found),
        "params": tables.pairs_table(_of_one_run(found), found.about.get("params", {})),
        "versions": tables.pairs_table("Versions", found.about.get("versions", {})),
        "lines": found.lines,
        "word_cell": word_cell,
        "words": {"fixed": fixed, "duration": duration, "size": size, "listed": listed},
        "css": Markup((HERE / "page.css").read_text(encoding="utf-8")),
        "light": Markup(variables(dark=False)),
        "dark": Markup(variables(dark=True)),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }


def _pictures(found: Results) -> list[Picture]:
    """The pictures of the galleries that are there, in the order of the variants."""
    pictures = []
    for variant in found.variants:
        for name, words in PICTURES.items():
            path = found.folder / "galleries" / variant / f"{name}.png"
            if path.is_file():
                pictures.append(Picture(name, variant, _uri(path), words.format(noun=found.noun, nouns=found.nouns)))
    return pictures


def _uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _classes(found: Results, photographs: bool) -> Picture | None:
    """A photograph of each class, where the page may show any."""
    path = found.folder / "galleries" / "classes.png"
    if not photographs or not path.is_file():
        return None
    return Picture("classes", "", _uri(path), f"One photograph of each of the {found.nouns}, the smallest first.")


def _curve(found: Results) -> tuple[int, int]:
    """The smallest and largest budgets between which labels saved are read off."""
    ends = [found.measured_between(row) for row in found.saved] or [(found.budgets[0], found.budgets[-1])]
    return min(least for least, _ in ends), max(most for _, most in ends)


def _levels(found: Results) -> str:
    """What chance and always the same answer get, in a sentence; nothing where older runs do not tell."""
    chance, majority = found.level("chance"), found.level("majority")
    if chance is None or majority is None:
        return ""
    one, other = (f"{fixed(100 * level, 1)} %" for level in (chance, majority))
    return f"Chance is {one}; always the largest class gets {other} (balanced: {one})."


def _below_chance(found: Results) -> str:
    """Which variants are worse than a guess, and with how many labels; nothing where none is."""
    chance, said = found.level("chance"), []
    for variant, points in found.means(found.measure).items():
        labels = [str(point.labels) for point in points if chance is not None and point.mean < chance - SLACK]
        if labels:
            said.append(f"{variant} with {listed(labels)} labels")
    return f"Below chance: {'; '.join(said)}." if said else ""


def _best(found: Results) -> str | None:
    """The variant with the largest difference over all budgets in what decides."""
    rows = [r for r in found.rows_of(found.measure) if r["labels"] is None and r["difference"] is not None]
    return max(rows, key=lambda row: float(row["difference"]))["variant"] if rows else None


def _before_and_after(found: Results, pictures: list[Picture], name: str) -> list[Picture]:
    """The baseline's picture and the best variant's."""
    return [p for v in (found.baseline, _best(found)) for p in pictures if (p.name, p.variant) == (name, v)]


def _others(found: Results, pictures: list[Picture], name: str) -> list[Picture]:
    return [p for p in pictures if p.name == name and p.variant not in (found.baseline, _best(found))]


def _pretexts(found: Results, drawn: dict[str, Markup], pictures: list[Picture]) -> list[Row]:
    """For each variant with a pretext: what it is, its curves on held-out photographs, its pictures."""
    parts = []
    for variant in found.variants:
        curves = drawn.get(f"pretext {variant}", Markup(""))
        shown = [p for p in pictures if p.variant == variant and p.name in PRETEXT_PICTURES]
        if curves or shown:
            about = found.study["variants"].get(variant, {}).get("about", "")
            parts.append({"variant": variant, "about": about, "curves": curves, "pictures": shown})
    return parts
