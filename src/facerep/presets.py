"""presets/*.yaml: what each data set wants different, to be written into params.yaml or given as `-S` flags."""

import io
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import Comment, CommentedBase, CommentedMap, CommentedSeq
from ruamel.yaml.tokens import CommentToken

from facerep.core.errors import FacerepError
from facerep.core.files import atomic
from facerep.params import Params, checked, load_yaml, parse_yaml

PRESETS = Path("presets")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")  # what Hydra takes for a text without quotes …
_SECTION = re.compile(r"(?m)^( .*)\n(\w+:)")  # the end of a section, and the next without a blank line between
_NO_WORDS = ("true", "false", "null", "nan", "inf", "infinity")  # … but for these


def preset_names(folder: Path = PRESETS) -> dict[str, str]:
    """The presets, by name, with the first line of each, which says what it is for. Raises FacerepError if there is none."""
    found = {path.stem: path.read_text(encoding="utf-8").partition("\n")[0] for path in sorted(folder.glob("*.yaml"))}
    if not found:
        raise FacerepError(f"{folder}: holds no preset; run from the repository's root.")
    return {name: line.removeprefix("#").strip() if line.startswith("#") else "" for name, line in found.items()}


def load_preset(name: str, folder: Path = PRESETS) -> dict[str, Any]:
    """The values of a preset, by key: `{"crop.size": 64}`. Raises FacerepError for an unknown name."""
    if name not in preset_names(folder):
        raise FacerepError(f"no such preset: {name}; one of {', '.join(preset_names(folder))}.")
    return dict(flat(load_yaml(folder / f"{name}.yaml", "run from the repository's root")))


def flat(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Nested keys and values as `a.b.c` and value; a list is a value."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{above}{key}.")
        else:
            yield above + key, value


def params_with(name: str, params: Path, folder: Path = PRESETS) -> Params:
    """params.yaml with a preset's values. Raises FacerepError if these do not fit together."""
    raw = merged(load_yaml(params, "run from the repository's root"), load_preset(name, folder))
    return checked(raw, Params, f"{params} with {folder / name}.yaml")


def changes(name: str, params: Path, folder: Path = PRESETS) -> dict[str, Any]:
    """The values of a preset that params.yaml has not, by key. Raises FacerepError as params_with does."""
    params_with(name, params, folder)
    now = dict(flat(load_yaml(params, "run from the repository's root")))
    return {key: value for key, value in load_preset(name, folder).items() if key not in now or now[key] != value}


def write_preset(name: str, params: Path, folder: Path = PRESETS) -> dict[str, Any]:
    """Write a preset's values into params.yaml and keep its comments. Returns the values that changed, by key.

    Comments inside a list go with the list. Raises FacerepError as params_with does; params.yaml then stays as it is.
    """
    changed, values = changes(name, params, folder), load_preset(name, folder)
    before = params.read_text(encoding="utf-8")
    yaml = _yaml()
    text = yaml.load(before)
    preset = yaml.load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
    for key in values:  # those that agree, too: `dvc exp run` writes lists in a style of its own
        *above, last = key.split(".")
        block, source = text, preset
        for part in above:
            block, source = block[part], source[part]
        _replace(block, last, source[last])
    out = io.StringIO()
    yaml.dump(text, out)
    written = _SECTION.sub(r"\1\n\n\2", out.getvalue())
    if parse_yaml(written) != merged(parse_yaml(before), values):
        raise FacerepError(f"{params}: cannot be edited with its comments; `git checkout {params}` and try again.")
    with atomic(params) as file:
        file.write_text(written, encoding="utf-8")
    return changed


def _yaml() -> YAML:
    """Reads and writes a file with its comments and in its own style."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1_000_000
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null"))
    return yaml


def _replace(block: CommentedMap, key: str, new: Any) -> None:
    """Put a preset's value in the place of the old one; the comment behind the key stays."""
    if isinstance(new, CommentedSeq):
        comment = next((part for part in block.ca.items.get(key) or () if isinstance(part, CommentToken)), None)
        for part in (new, *(part for part in new if isinstance(part, CommentedBase))):
            vars(part).pop(Comment.attrib, None)
        if comment is not None:
            comment.value = comment.value.partition("\n")[0] + "\n"  # without the lines below, which the old list had
            block.ca.items[key] = [None, None, comment, None]
            if not new.fa.flow_style():
                new.ca.comment = [comment, None]
    block[key] = new


def merged(raw: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """A copy of nested dictionaries with the value of each `a.b.c`. Raises FacerepError if a block above it is missing."""
    out = deepcopy(raw)
    for key, value in values.items():
        *path, last = key.split(".")
        block = out
        for number, part in enumerate(path, 1):
            block = block.get(part, {})
            if not isinstance(block, dict) or not block:
                raise FacerepError(f"{key}: params.yaml has no block {'.'.join(path[:number])}.")
        block[last] = value
    return out


def override(value: Any) -> str:
    """A value as `dvc exp run -S key=…` wants it: Hydra's override grammar, without spaces of its own."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{override(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(override(part) for part in value) + "]"
    if isinstance(value, str) and not (_WORD.fullmatch(value) and value.lower() not in _NO_WORDS):
        # a backslash is itself, except before a quote
        return "'" + re.sub(r"(\\*)('|\Z)", lambda m: 2 * m[1] + "\\'" * bool(m[2]), value) + "'"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
