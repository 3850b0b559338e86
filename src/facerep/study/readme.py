"""A study's results inside Markdown files, between two comments that name the study: written from the results alone."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from facerep.core.errors import FacerepError
from facerep.core.files import atomic
from facerep.faces.measure import ACCURACY
from facerep.study.page import effort
from facerep.study.page.effort import spent
from facerep.study.page.figures import slug_of
from facerep.study.page.words import MEASURES

UNDER_WAY = "The study is under way: no seed is complete yet."


def headline(results: Path, link: str) -> str:
    """The verdict in a sentence, and a figure, as Markdown. `link` is the folder as the Markdown file reaches it."""
    verdict = json.loads((results / "verdict.json").read_text(encoding="utf-8"))
    about = json.loads((results / "about.json").read_text(encoding="utf-8"))
    return "\n\n".join([f"**{verdict['sentence']}**", *_beside(verdict, about), _figure(verdict, link)])


def _beside(verdict: dict[str, Any], about: dict[str, Any]) -> list[str]:
    """What nobody should read the verdict without: what was spent, and what no interval holds."""
    return [" ".join(told)] if (told := list(filter(None, [spent(about), *verdict.get("caveats", [])]))) else []


def _figure(verdict: dict[str, Any], link: str) -> str:
    named = MEASURES[verdict.get("measure", ACCURACY)].short
    return (
        f"![{named.capitalize()} by labels per identity, with 95 % bands]({link}/figures/curves-{slug_of(named)}.svg)"
    )


def section(results: Path, link: str) -> str:
    """All results as Markdown: the verdict, the table, a figure. `link` is the folder as the Markdown file reaches it."""
    shown = f"results/{results.name}"
    verdict = json.loads((results / "verdict.json").read_text(encoding="utf-8"))
    about = json.loads((results / "about.json").read_text(encoding="utf-8"))
    study, hardware, time = about["study"], about["hardware"], about["time"]
    parts = [f"**{verdict['sentence']}**", *_beside(verdict, about)]
    if not verdict["complete"]:
        parts.append(
            f"The study is not finished: {verdict['missing']} runs are missing, and the seeds that are not complete "
            "are left out of what follows."
        )
    lines = [
        f"- `{name}` ({study['variants'][name]['about']}): {said['sentence']} {said['labels_saved_sentence']}".strip()
        for name, said in verdict["variants"].items()
    ]
    parts.append("\n".join(lines))
    parts += filter(None, [effort.markdown(about)])
    parts.append((results / "table.md").read_text(encoding="utf-8").strip())
    parts.append(_figure(verdict, link))
    hours = time["seconds_total"] * time["threads"] / 3600
    parts.append(
        f"{time['runs']} runs, {time['of_tuning']} of them for tuning alone: {hours:.1f} core hours in all "
        f"({time['runs_timed']} runs timed); written on {hardware['machine']}. All figures, the rules behind the words, "
        f"parameters and versions are in [{shown}/index.html]({link}/index.html), the runs' own numbers in "
        f"[{shown}/runs.csv]({link}/runs.csv), "
        f"their lines in [{shown}/commands.sh]({link}/commands.sh). To run it again:"
    )
    parts.append("```sh\n" + about["commands"][0] + "\n```")
    return "\n\n".join(parts)


def insert(markdown: Path, results: Path) -> None:
    """Put the results between `<!-- results/<study> -->` and `<!-- /results/<study> -->` of the file, all of them.

    Between `<!-- verdict/<study> -->` and `<!-- /verdict/<study> -->` go the verdict and the figure alone. Raises
    FacerepError when the file has neither pair of comments, or one twice or by halves.
    """
    link = Path(os.path.relpath(results, markdown.parent)).as_posix()
    text = markdown.read_text(encoding="utf-8")
    there = [what for what in (section, headline) if f"<!-- {_mark(what, results)} -->" in text]
    for what in there or [section]:
        first, last = f"<!-- {_mark(what, results)} -->", f"<!-- /{_mark(what, results)} -->"
        if text.count(first) != 1 or text.count(last) != 1 or text.index(first) > text.index(last):
            raise FacerepError(f"{markdown}: needs the lines {first} and {last} once each, to put the results between.")
        before, after = text[: text.index(first) + len(first)], text[text.index(last) :]
        said = what(results, link) if (results / "verdict.json").is_file() else UNDER_WAY
        text = f"{before}\n{said}\n{after}"
    with atomic(markdown) as part:
        part.write_text(text, encoding="utf-8")


def _mark(what: Callable[[Path, str], str], results: Path) -> str:
    return f"{'results' if what is section else 'verdict'}/{results.name}"
