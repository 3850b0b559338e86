"""presets/*.yaml: they differ in values alone, go into params.yaml and out of it, and mean the same to `dvc exp run -S`."""

import os
import pty
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides, to_hydra_overrides
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from facerep.cli import app
from facerep.params import load_params
from facerep.presets import flat, load_preset, override, params_with, preset_names, write_preset
from tests.support.paths import ROOT
from tests.support.repository import environment, sh

NAMES = ("demo", "folder", "lfw", "vggface2")
PARAMS = (ROOT / "params.yaml").read_text(encoding="utf-8")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml and presets/, and in it."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def comments(text: str) -> list[str]:
    return re.findall(r"(?:^|\s)(#.*)", text)


def values(path: Path) -> dict[str, Any]:
    return dict(flat(yaml.safe_load(path.read_text(encoding="utf-8"))))


def test_each_preset_says_in_its_first_line_what_it_is_for() -> None:
    assert tuple(preset_names(ROOT / "presets")) == NAMES
    assert all(len(line) > 20 and not line.startswith("#") for line in preset_names(ROOT / "presets").values())


@pytest.mark.parametrize("name", NAMES)
def test_all_presets_name_the_same_keys(name: str) -> None:
    """So that switching leaves nothing of the last one behind."""
    assert load_preset(name, ROOT / "presets").keys() == load_preset("demo", ROOT / "presets").keys()


@pytest.mark.parametrize("name", NAMES)
def test_each_gives_valid_parameters_with_all_its_values(name: str) -> None:
    params = params_with(name, ROOT / "params.yaml", ROOT / "presets")
    got = dict(flat(params.model_dump(exclude_unset=True)))
    assert got == values(ROOT / "params.yaml") | load_preset(name, ROOT / "presets")


def test_the_committed_parameters_are_the_demos(here: Path) -> None:
    assert load_preset("demo").items() <= values(here / "params.yaml").items()
    result = CliRunner().invoke(app, ["preset", "demo"])
    assert (result.exit_code, result.output) == (0, "params.yaml: is demo already.\n")
    assert (here / "params.yaml").read_text() == PARAMS


def test_from_preset_to_preset_and_back_leaves_the_same_bytes(here: Path) -> None:
    for name in ("lfw", "vggface2", "folder", "demo"):
        changed = write_preset(name, here / "params.yaml")
        text = (here / "params.yaml").read_text()
        assert comments(text) == comments(PARAMS), "of params.yaml all, of the preset none"
        assert load_params(here / "params.yaml") == params_with(name, ROOT / "params.yaml")
        assert changed and changed.items() <= load_preset(name).items()
    assert text == PARAMS


def test_what_the_preset_does_not_name_stays_as_it_was_set_by_hand(here: Path) -> None:
    params = here / "params.yaml"
    params.write_text(PARAMS.replace("seed: 0 ", "seed: 7 ", 1).replace("flip: true ", "flip: false", 1))
    write_preset("lfw", params)
    assert (load_params().seed, load_params().pretrain.flip) == (7, False)


@pytest.mark.parametrize("change", ["probe.labels=[1,3]", "download.archives=[{url: '/my pictures'}]", "crop.size=96"])
def test_what_dvc_has_rewritten_comes_back_byte_for_byte(change: str, here: Path) -> None:
    """`dvc exp run -S` leaves lists in another style, texts without quotes and nulls empty."""
    for name in ("demo", "vggface2", "folder"):
        apply_overrides(str(here / "params.yaml"), [change])
        assert (here / "params.yaml").read_text() != PARAMS
        write_preset(name, here / "params.yaml")
        assert values(here / "params.yaml").items() >= load_preset(name).items()
    write_preset("demo", here / "params.yaml")
    assert (here / "params.yaml").read_text() == PARAMS


def test_a_key_that_was_deleted_by_hand_is_written_again(here: Path) -> None:
    params = here / "params.yaml"
    params.write_text(re.sub(r"(?m)^(memory_mb|  quality):.*\n", "", PARAMS))
    assert {"memory_mb", "crop.quality"} <= write_preset("vggface2", params).keys()
    assert load_params() == params_with("vggface2", ROOT / "params.yaml")


def test_the_command_lists_them_and_prints_what_it_changes(here: Path) -> None:
    listed = CliRunner().invoke(app, ["preset"])
    assert listed.exit_code == 0
    assert [line.split(maxsplit=1)[0] for line in listed.output.splitlines()] == list(NAMES)
    before = values(here / "params.yaml")
    result = CliRunner().invoke(app, ["preset", "lfw"])
    assert result.exit_code == 0
    *lines, last = result.output.splitlines()
    after = values(here / "params.yaml")
    assert [line.partition(":")[0] for line in lines] == [
        key for key in load_preset("lfw") if after[key] != before[key]
    ]
    assert "probe.labels: [1,3,6,12]" in lines
    assert last == f"params.yaml: {len(lines)} values of lfw written."


def means_the_preset(words: list[str], name: str, folder: Path) -> bool:
    """Whether DVC, given these words, makes of the committed params.yaml what the preset makes of it."""
    assert words[::2] == ["-S"] * (len(words) // 2)
    (folder / "params.yaml").write_text(PARAMS)
    ((_, overrides),) = to_path_overrides(words[1::2]).items()
    apply_overrides(folder / "params.yaml", overrides)
    return values(folder / "params.yaml") == values(ROOT / "params.yaml") | load_preset(name)


@pytest.mark.parametrize("name", NAMES[1:])
def test_the_flags_say_to_dvc_what_the_preset_says(name: str, here: Path) -> None:
    """Put into a line by the shell, as the help has it."""
    line = f'for word in $(facerep preset {name} --set); do printf "%s\\n" "$word"; done'
    words = sh("bash", "-c", line, cwd=here).splitlines()
    assert (here / "params.yaml").read_text() == PARAMS, "nothing is written"
    assert means_the_preset(words, name, here)


def test_flags_copied_from_a_terminal_say_the_same(here: Path) -> None:
    ours, theirs = pty.openpty()
    done = subprocess.run(
        ["facerep", "preset", "vggface2", "--set"], cwd=here, env=environment(), stdout=theirs, check=True
    )
    os.close(theirs)
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(ours, 10_000)
    os.close(ours)
    assert done.returncode == 0
    words = sh("bash", "-c", f"printf '%s\\n' {line.decode().strip()}", cwd=here).splitlines()
    assert means_the_preset(words, "vggface2", here)


def test_the_flags_of_the_active_preset_are_none(here: Path) -> None:
    result = CliRunner().invoke(app, ["preset", "demo", "--set"])
    assert (result.exit_code, result.output.strip()) == (0, "")


TEXTS = st.text(st.characters(exclude_categories=("C",)), max_size=20)  # no control characters: a line has none
KEYS = st.from_regex(r"[a-z_]{1,8}", fullmatch=True).filter(
    lambda key: key not in ("true", "false", "null", "nan", "inf")
)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(
    PLAIN, lambda part: st.lists(part, max_size=3) | st.dictionaries(KEYS, part, max_size=2), max_leaves=4
)


@given(VALUES)
def test_any_value_comes_back_from_hydras_grammar(value: Any) -> None:
    (parsed,) = to_hydra_overrides([f"key={override(value)}"])
    assert not parsed.is_sweep_override()
    assert parsed.value() == value and type(parsed.value()) is type(value)


def sentence_of(*command: str) -> str:
    """The command fails with exit code 1 and one sentence, and says nothing else."""
    result = CliRunner().invoke(app, list(command))
    assert result.exit_code == 1
    said = result.output.strip()
    assert said.startswith("preset: ") and said.endswith(".") and "\n" not in said, said
    return said


@pytest.mark.parametrize("more", [(), ("--set",)], ids=["written", "as flags"])
def test_what_cannot_be_is_refused_in_a_sentence_and_nothing_is_written(more: tuple[str, ...], here: Path) -> None:
    assert "no such preset: imagenet; one of demo, folder, lfw, vggface2" in sentence_of("preset", "imagenet", *more)
    lfw = here / "presets" / "lfw.yaml"
    good = lfw.read_text()
    for old, new, *named in (
        ("crop: {", "crop: [", "presets/lfw.yaml: not YAML (line "),
        (good, "# words\njust words\n", "presets/lfw.yaml: must hold keys and values"),
        ("method: detector", "method: middle", "presets/lfw.yaml", "crop.method = 'middle'", "center"),
        ("quality:", "qualities:", "presets/lfw.yaml", "unknown key crop.qualities"),
        ("crop: {", "crops: {", "crops.method: params.yaml has no block crops"),
        ("size: 64, quality", "size: 32, quality", "crop.size (32)", "model.image_size (64)"),
    ):
        assert old in good
        lfw.write_text(good.replace(old, new, 1))
        said = sentence_of("preset", "lfw", *more)
        assert [part for part in named if part not in said] == [], said
    assert (here / "params.yaml").read_text() == PARAMS
    lfw.write_text(good)
    (here / "params.yaml").write_text(PARAMS.replace("seed: 0 ", "seed: -1 ", 1))
    assert "params.yaml with presets/lfw.yaml: seed = -1" in sentence_of("preset", "lfw", *more)
    (here / "params.yaml").unlink()
    assert "params.yaml: not there; run from the repository's root" in sentence_of("preset", "lfw", *more)
    (here / "params.yaml").write_text(PARAMS)
    shutil.rmtree(here / "presets")
    for command in (("preset", "lfw", *more), ("preset",)):
        assert "presets: holds no preset; run from the repository's root" in sentence_of(*command)


def test_flags_that_a_shell_would_cut_are_refused(here: Path) -> None:
    folder = here / "presets" / "folder.yaml"
    folder.write_text(folder.read_text().replace("my/labelled", "/home/me/my pictures"))
    said = sentence_of("preset", "folder", "--set")
    assert "my pictures" in said and "`facerep preset folder`" in said


def test_set_wants_a_name(here: Path) -> None:
    assert sentence_of("preset", "--set").startswith("preset: --set wants the name of a preset; one of demo, ")
