"""The command `facerep`: its help, its completion, and errors that are one sentence."""

import json
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from facerep.cli import app
from tests.support.paths import ROOT
from tests.support.repository import sh

REMOTE = ("use", "push", "pull", "fetch", "check")
COMMANDS = ("preset", "study", "report", "summary", *(f"remote {name}" for name in REMOTE))


def facerep(*words: str, **environment: str) -> Result:
    return CliRunner(env={"COLUMNS": "200", "TERM": "dumb", **environment}).invoke(app, list(words))


def assert_sentence(result: Result, *parts: str) -> None:
    """Exit code 1, and one sentence that holds the parts."""
    said = result.output.strip()
    assert result.exit_code == 1
    assert said.endswith(".") and "\n" not in said, said
    assert [part for part in parts if part not in said] == [], said


def commands(group: object = None, above: str = "") -> Iterator[str]:
    """The full names of all commands."""
    for name, command in (group or typer.main.get_command(app)).commands.items():  # type: ignore[attr-defined]
        if hasattr(command, "commands"):
            yield from commands(command, f"{above}{name} ")
        else:
            yield above + name


def test_these_are_the_commands() -> None:
    assert tuple(commands()) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_has_an_example_and_says_what_every_option_does(command: str) -> None:
    result = facerep(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"Example: facerep {command}" in result.output
    for line in result.output.splitlines():
        if "--" in line.split("<")[0] and line.startswith("│"):
            assert len(line.rstrip("│ ").split("  ")[-1].split()) > 2, line


def test_the_help_keeps_what_stands_in_angle_brackets() -> None:
    assert "The folder above <study>/." in facerep("report", "--help").output
    assert "between <!-- results/<study> --> comments" in facerep("report", "--help").output


def test_without_a_command_the_help_is_shown() -> None:
    for words in ((), ("remote",)):
        shown = facerep(*words)
        assert shown.output.strip() == facerep(*words, "--help").output.strip()
        assert "Traceback" not in shown.output


def test_the_installed_command_is_this_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"facerep": f"{app.registered_commands[0].callback.__module__}:app"}  # type: ignore[union-attr]


def test_help_waits_for_no_heavy_import(tmp_path: Path) -> None:
    light = (
        "import sys; from typer.testing import CliRunner; from facerep.cli import app;"
        "assert CliRunner().invoke(app, ['study', '--help']).exit_code == 0;"
        "print([name for name in ('torch', 'dvc', 'transformers', 'matplotlib', 'pyarrow') if name in sys.modules])"
    )
    assert sh("python", "-c", light, cwd=tmp_path) == "[]\n"


# Completion


@pytest.mark.parametrize(("shell", "line"), [("bash", "complete "), ("zsh", "compdef "), ("fish", "complete ")])
def test_completion_can_be_shown_for_each_shell(shell: str, line: str, tmp_path: Path) -> None:
    shown = sh("facerep", cwd=tmp_path, env={"_FACEREP_COMPLETE": f"source_{shell}"})
    assert f"_FACEREP_COMPLETE=complete_{shell}" in shown
    assert any(each.lstrip().startswith(line) and "facerep" in each for each in shown.splitlines())
    asked = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # else of the shell that has started this very test
    assert sh("facerep", "--show-completion", shell, cwd=tmp_path, env=asked).strip() == shown.strip()


def test_show_completion_knows_the_shell_that_asks(tmp_path: Path) -> None:
    shown = sh("bash", "-c", "facerep --show-completion; exit $?", cwd=tmp_path)
    assert "complete -o default -F _facerep_completion facerep" in shown


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("facerep s", ["study", "summary"]),
        ("facerep remote p", ["push", "pull"]),
        ("facerep study --j", ["--jobs"]),
    ],
)
def test_bash_completes(typed: str, expected: list[str], tmp_path: Path) -> None:
    """Its own function, as `eval "$(…)"` in .bashrc makes it."""
    words = typed.split()
    script = (
        'eval "$(_FACEREP_COMPLETE=source_bash facerep)"; '
        f"COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _facerep_completion facerep; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    assert sh("bash", "-c", script, cwd=tmp_path).split() == expected


# Errors


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_not_there_is_named(empty: Path) -> None:
    assert_sentence(facerep("summary"), "summary: params.yaml: not there; run from the repository's root.")
    shutil.copy(ROOT / "params.yaml", empty)
    assert_sentence(facerep("summary"), "summary: metrics/crop.json: not there; run `dvc repro`.")
    (empty / "params.yaml").unlink()
    assert_sentence(facerep("preset"), "preset: presets: holds no preset; run from the repository's root.")
    for command in ("study", "report"):
        assert_sentence(facerep(command, "studies/no.yaml"), f"{command}: studies/no.yaml: not there;")


@pytest.mark.parametrize("command", REMOTE)
def test_outside_a_repository_the_remote_says_so(command: str, tmp_path: Path) -> None:
    said = sh("facerep", "remote", command, *["gs://a/b"] * (command == "use"), cwd=tmp_path, ok=False)
    assert said.startswith(f"{command}: you are not inside of a DVC repository")
    assert "Traceback" not in said and said.count("\n") == 1


def test_a_study_that_is_wrong_and_a_share_that_it_has_not_are_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for option, value, named in (
        ("--seeds", "9", "--seeds 9: none of 0, 1, 2"),
        ("--seeds", "one", "--seeds one: give whole numbers and commas, as 0,1,2"),
        ("--variants", "simclr", "--variants simclr: none of original, rotated, grayscale"),
    ):
        assert_sentence(facerep("study", "studies/demo.yaml", option, value, "--plan"), f"study: {named}")
    assert_sentence(facerep("study", "params.yaml"), "study: params.yaml: ")


@pytest.mark.parametrize(
    "words", [("study",), ("study", "studies/demo.yaml", "--jobs", "0"), ("presets",), ("preset", "--sett")]
)
def test_a_mistyped_line_shows_how_it_is_meant(words: tuple[str, ...]) -> None:
    result = facerep(*words)
    assert result.exit_code == 2
    assert "Usage:" in result.output and "Traceback" not in result.output


def test_the_summary_shows_the_committed_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    if not Path("metrics/probe.json").is_file():
        pytest.skip("the committed metrics are of before the stage probe")
    result = facerep("summary")
    assert result.exit_code == 0
    test = json.loads(Path("metrics/evaluate.json").read_text())["test"]
    for name in ("accuracy", "balanced_accuracy", "chance", "majority"):
        assert f"{test[name]:.3f}" in result.output
    assert "models/pretrained/" in result.output


def test_the_summary_of_folders_speaks_of_classes_and_keeps_brackets(empty: Path) -> None:
    if not (ROOT / "metrics" / "probe.json").is_file():
        pytest.skip("the committed metrics are of before the stage probe")
    shutil.copytree(ROOT / "metrics", empty / "metrics")
    text = (ROOT / "params.yaml").read_text()
    (empty / "params.yaml").write_text(re.sub(r"(?m)^( +roles:) \w+", r"\1 by_folder", text))
    select = json.loads((empty / "metrics" / "select.json").read_text())
    (empty / "metrics" / "select.json").write_text(json.dumps(select | {"notes": ["The class cat [old] is small."]}))
    said = facerep("summary").output
    assert "cat [old] is small" in said
    assert "classes" in said and "by labels per class" in said and "identit" not in said
