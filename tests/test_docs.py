"""README and docs/: every link leads somewhere, and every command and parameter that they show exists."""

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import typer
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from facerep.cli import app

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS, ROOT / "cloud/README.md", ROOT / "benchmarks/README.md"]
STOPS = frozenset("|&;()<>")  # of a shell: what follows is another command


def each_page(test: Any) -> Any:
    return pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))(test)


@cache
def tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def links(page: Path) -> Iterator[str]:
    """Every address of a link or a picture."""
    for block in tokens(page):
        for token in block.children or []:
            if address := token.attrGet("href") or token.attrGet("src"):
                yield str(address)


@cache
def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings: lower case, no punctuation, hyphens for spaces, a number where one comes again."""
    found: set[str] = set()
    seen: Counter[str] = Counter()
    for opening, inline in pairwise(tokens(page)):
        if opening.type == "heading_open":
            text = "".join(part.content for part in inline.children or [] if part.type in ("text", "code_inline"))
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return found


def code(page: Path) -> Iterator[str]:
    """What stands in fences of the shell, a command a line, and between backticks."""
    for block in tokens(page):
        if block.type == "fence" and block.info == "sh":
            yield from block.content.replace("\\\n", " ").splitlines()
        yield from (token.content for token in block.children or [] if token.type == "code_inline")


def words(line: str) -> list[str]:
    """A line as the shell splits it, its comment left out, `$(` and `|` as words of their own."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="".join(STOPS))
    lexer.whitespace_split = True
    try:
        return list(lexer)
    except ValueError:  # a quote that does not close: prose between backticks
        return line.split()


def commands(line: str) -> Iterator[list[str]]:
    """The arguments of each `facerep` in a line."""
    current: list[list[str]] = [[]]
    for word in words(line):
        if set(word) <= STOPS:
            current.append([])
        else:
            current[-1].append(word)
    for argv in current:
        while argv and re.fullmatch(r"[A-Z_]+=.*", argv[0]):  # of the environment
            argv = argv[1:]
        if argv and argv[0] == "facerep":
            yield argv[1:]


def complaint(arguments: list[str]) -> str | None:
    """What is wrong with the arguments of `facerep`: a subcommand or an option that it does not have."""
    command: Any = typer.main.get_command(app)
    for argument in arguments:
        if argument.startswith("--"):
            known = {option for parameter in command.params for option in parameter.opts}
            passes_on = command.context_settings.get("ignore_unknown_options", False)
            if argument.partition("=")[0] not in {*known, "--help"} and not passes_on:
                return f"{command.name} has no option {argument}"
        elif getattr(command, "commands", None):
            if argument not in command.commands:
                return f"{command.name} has no subcommand {argument}"
            command = command.commands[argument]
    return None


def keys(line: str) -> Iterator[str]:
    """The keys of params.yaml in a line: after each -S, and where it begins with one. (A metric may begin with `probe`.)"""
    for before, after in pairwise(words(line)):
        if before == "-S" and "=" in after:
            yield after.partition("=")[0]
    if named := re.match(r"(?:download|crop|select|model|pretrain|finetune)\.(?!(?:py|json|yaml|csv)\b)[a-z_]+", line):
        yield named[0]


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for address in links(page):
        if re.match(r"[a-z]+:", address):
            continue
        path, _, anchor = unquote(address).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{address}: no such file"
        assert target.is_relative_to(ROOT), f"{address}: outside of the repository"
        if anchor:
            assert target.suffix == ".md", f"{address}: only headings of Markdown are checked"
            assert anchor in anchors(target), f"{address}: one of {', '.join(sorted(anchors(target)))}"


def test_headings_become_the_anchors_that_github_makes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# The demo's table\n## `a_b`, and *c*: 90 %?\n## Twice\n## Twice\n```\n# no heading\n```\n")
    assert anchors(page) == {"the-demos-table", "a_b-and-c-90-", "twice", "twice-1"}


def test_readme_is_one_page_and_leads_to_all_others() -> None:
    readme = ROOT / "README.md"
    assert len(readme.read_text(encoding="utf-8").splitlines()) <= 120
    linked = {(ROOT / address.partition("#")[0]).resolve() for address in links(readme)}
    assert not [str(page) for page in DOCS if page not in linked]


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_a_page_says_first_what_it_is_for(page: Path) -> None:
    kinds = [token.type for token in tokens(page) if token.level == 0][:4]
    assert kinds == ["heading_open", "heading_close", "paragraph_open", "paragraph_close"]


@each_page
def test_every_command_exists(page: Path) -> None:
    wrong = {line: complaint(argv) for line in code(page) for argv in commands(line) if complaint(argv)}
    assert not wrong


@each_page
def test_every_parameter_that_is_named_exists(page: Path) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    unknown = [key for line in code(page) for key in keys(line) if not has(params, key.split("."))]
    assert not unknown


def has(params: Any, names: list[str]) -> bool:
    return not names or (isinstance(params, dict) and names[0] in params and has(params[names[0]], names[1:]))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("dvc exp run $(facerep preset lfw --set) -S pretrain.epochs=50", [["preset", "lfw", "--set"]]),
        ("FACEREP_MIRROR=<folder> facerep study studies/lfw.yaml   # facerep nothing", [["study", "studies/lfw.yaml"]]),
        ("facerep report x.yaml && facerep summary", [["report", "x.yaml"], ["summary"]]),
        ("make study", []),
    ],
)
def test_commands_are_found_in_a_line(line: str, said: list[list[str]]) -> None:
    assert list(commands(line)) == said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("dvc exp run -S seed=1 -S 'download.archives=[{url: /data/my-faces.tar}]'", ["seed", "download.archives"]),
        ("crop.method: center", ["crop.method"]),
        ("crop.py", []),
        ("dvc repro --pull", []),
    ],
)
def test_parameters_are_found_in_a_line(line: str, said: list[str]) -> None:
    assert list(keys(line)) == said
