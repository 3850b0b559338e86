"""A study's results inside a Markdown file, between two comments that name its folder: written from the results alone."""

import json
from pathlib import Path

from facerep.core.errors import FacerepError
from facerep.core.files import atomic


def section(results: Path, shown: str) -> str:
    """The results as Markdown: the verdict, the table, a figure. `shown` is the folder as the Markdown file names it."""
    if not (results / "verdict.json").is_file():
        return "The study is under way: no seed is complete yet."
    verdict = json.loads((results / "verdict.json").read_text(encoding="utf-8"))
    about = json.loads((results / "about.json").read_text(encoding="utf-8"))
    study, hardware, time = about["study"], about["hardware"], about["time"]
    parts = [f"**{verdict['sentence']}**"]
    if not verdict["complete"]:
        parts.append(
            f"The study is not finished: {verdict['missing']} runs are wanting, and the seeds that are not complete "
            "are left out of what follows."
        )
    lines = [
        f"- `{name}` ({study['variants'][name]['about']}): {said['sentence']} {said['labels_saved_sentence']}".strip()
        for name, said in verdict["variants"].items()
    ]
    parts.append("\n".join(lines))
    parts.append((results / "table.md").read_text(encoding="utf-8").strip())
    parts.append(f"![Accuracy by labels an identity, with 95 % bands]({shown}/figures/curves-accuracy.svg)")
    hours = time["seconds_total"] * time["threads"] / 3600
    parts.append(
        f"{time['runs']} runs, {time['of_tuning']} of them for tuning alone: {hours:.1f} core hours in all "
        f"({time['runs_timed']} runs timed); written on {hardware['machine']}. All figures, the rules behind the words, "
        f"parameters and versions are in [{shown}/index.html]({shown}/index.html), the runs' own numbers in "
        f"[{shown}/runs.csv]({shown}/runs.csv), "
        f"their lines in [{shown}/commands.sh]({shown}/commands.sh). To run it again:"
    )
    parts.append("```sh\n" + about["commands"][0] + "\n```")
    return "\n\n".join(parts)


def insert(readme: Path, results: Path) -> None:
    """Put the section between `<!-- results/<study> -->` and `<!-- /results/<study> -->` of the file.

    Raises FacerepError when the file has no such pair of comments.
    """
    shown = f"results/{results.name}"
    text = readme.read_text(encoding="utf-8")
    first, last = f"<!-- {shown} -->", f"<!-- /{shown} -->"
    if text.count(first) != 1 or text.count(last) != 1 or text.index(first) > text.index(last):
        raise FacerepError(f"{readme}: needs the lines {first} and {last} once each, to put the results between.")
    before, after = text[: text.index(first) + len(first)], text[text.index(last) :]
    with atomic(readme) as part:
        part.write_text(f"{before}\n{section(results, shown)}\n{after}", encoding="utf-8")
