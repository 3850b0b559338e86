"""The house: which package may import which, and which code each stage depends on, both compared with the imports."""

import ast
import importlib.util
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from dvc.repo import Repo

from facerep.core.dependencies import STAGES
from facerep.resume.unfinished import code_digest
from tests.support.paths import ROOT
from tests.support.repository import tiny_repository

SRC = ROOT / "src" / "facerep"

# What a package, or a module at the top, may import: only what stands above it. A new arrow is added here, and only here.
ARROWS: dict[str, set[str]] = {
    "core": set(),
    "pretexts": set(),
    "params": {"core", "pretexts"},
    "presets": {"core", "params"},
    "resume": {"core"},
    "archives": {"core"},
    "figures": {"core"},
    "faces": {"core"},
    "nets": {"core", "params", "faces"},
    "training": {"core", "params", "resume", "faces", "nets"},
    "pretrain": {"core", "pretexts", "params", "resume", "faces", "nets", "training"},
    "finetune": {"core", "params", "resume", "faces", "nets", "training"},
    "evaluate": {"core", "params", "resume", "figures", "faces", "nets", "training", "pretrain"},
    "synthetic": {"core", "archives"},
    "download": {"core", "params", "resume", "archives", "synthetic"},
    "crop": {"core", "params", "resume", "archives", "faces"},
    "select": {"core", "params", "faces"},
    "study": {
        "core",
        "pretexts",
        "params",
        "presets",
        "resume",
        "archives",
        "figures",
        "faces",
        "nets",
        "training",
        "pretrain",
        "synthetic",
        "download",
        "crop",
        "select",
    },
    "remote": {"core"},
    "dataset": {"core", "faces"},
    "summary": {"core", "params"},
    "cli": {"core", "presets", "study", "remote", "summary"},
}
NO_DEPENDENCY = ("core", "resume", "params.py")  # no result depends on it, as core/dependencies.py says
OUTSIDE = {"stages", "tests", "benchmarks", "cloud", "examples"}


class Import(NamedTuple):
    """A module, as a path below src/facerep, that imports another one."""

    file: str
    imported: str

    @property
    def arrow(self) -> tuple[str, str]:
        """From package to package."""
        return package_of(self.file), package_of(self.imported)


def package_of(file: str) -> str:
    return file.partition("/")[0].removesuffix(".py")


def names_in(path: Path) -> Iterator[str]:
    """What a file imports, wherever in it: full names, those of modules and of what is taken from them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}, line {node.lineno}: write the whole name, `from facerep.…`"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def imports_of(path: Path) -> frozenset[str]:
    """The modules of facerep that a file imports, as paths below src/facerep."""
    found = set()
    for name in names_in(path):
        first, *parts = name.split(".")
        while first == "facerep" and parts:
            module = SRC.joinpath(*parts)
            file = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
            if file.is_file():
                found.add(file.relative_to(SRC).as_posix())
                break
            parts.pop()  # a class or a function
    return frozenset(found)


def all_imports() -> list[Import]:
    files = sorted(SRC.rglob("*.py"))
    return [Import(file.relative_to(SRC).as_posix(), one) for file in files for one in sorted(imports_of(file))]


def complaints(imports: list[Import], table: dict[str, set[str]]) -> list[str]:
    """A sentence for each import that the table does not allow, and for each arrow of it that no import uses."""
    used = {each.arrow for each in imports}
    refused = [
        f"src/facerep/{each.file} imports {each.imported}: {start} → {end} is no arrow of the house; turn it round, or "
        f'add "{end}" to the row "{start}" of ARROWS in tests/test_house.py, where it stands above.'
        for each in imports
        for start, end in [each.arrow]
        if start != end and end not in table.get(start, set())
    ]
    unused = [
        f'no import uses {start} → {end}: take "{end}" out of the row "{start}" of ARROWS in tests/test_house.py.'
        for start, row in table.items()
        for end in sorted(row)
        if (start, end) not in used
    ]
    return refused + unused


def test_packages_import_along_the_arrows_alone() -> None:
    assert complaints(all_imports(), ARROWS) == []
    assert len(all_imports()) > 200, "it looks at all of them"


def test_arrows_run_one_way() -> None:
    above: set[str] = set()
    for package, row in ARROWS.items():
        assert row <= above, f'the row "{package}" of ARROWS names {sorted(row - above)}, which do not stand above it'
        above.add(package)


def test_every_package_and_module_has_a_row() -> None:
    there = {path.stem for path in SRC.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert there - {"__init__"} == ARROWS.keys()


def test_a_wrong_arrow_and_an_unused_one_are_told_in_a_sentence() -> None:
    table = {"core": set(), "nets": {"core"}, "pretrain": {"nets"}}
    made = [Import("nets/convnext.py", "pretrain/question.py"), Import("pretrain/stage.py", "nets/convnext.py")]
    back, unused = complaints(made, table)
    assert back.startswith("src/facerep/nets/convnext.py imports pretrain/question.py: nets → pretrain is no arrow")
    assert 'add "pretrain" to the row "nets" of ARROWS in tests/test_house.py' in back
    assert unused.startswith("no import uses nets → core: ")


def test_lazy_imports_count(tmp_path: Path) -> None:
    file = tmp_path / "lazy.py"
    file.write_text(
        "def later():\n    from facerep import presets\n    from facerep.nets.convnext import load_backbone\n"
    )
    assert imports_of(file) == {"presets.py", "nets/convnext.py"}


def test_modules_import_one_another_in_no_circle() -> None:
    graph = {file.relative_to(SRC).as_posix(): imports_of(file) for file in SRC.rglob("*.py")}
    TopologicalSorter(graph).prepare()  # names the circle


def test_the_package_imports_nothing_that_stands_around_it() -> None:
    found = {(path.name, name) for path in SRC.rglob("*.py") for name in names_in(path)}
    assert [pair for pair in sorted(found) if pair[1].partition(".")[0] in OUTSIDE] == []


# The code that each stage depends on


def reached_from(path: Path) -> set[str]:
    """The modules of facerep that a file imports, and those that they import, and so on.

    Of those alone that results depend on: params.py looks at the names of pretexts to check values, and DVC watches values.
    """
    found: set[str] = set()
    waiting = [path]
    while waiting:
        imported = imports_of(waiting.pop())
        new = {module for module in imported if not any(lies_in(module, entry) for entry in NO_DEPENDENCY)} - found
        found |= new
        waiting += [SRC / module for module in new]
    return found


def lies_in(module: str, entry: str) -> bool:
    return module == entry or module.startswith(f"{entry}/")


@pytest.mark.parametrize("stage", STAGES)
def test_the_code_of_a_stage_is_what_its_script_reaches(stage: str) -> None:
    reached = reached_from(ROOT / "stages" / f"{stage}.py") | reached_from(ROOT / "stages" / "__init__.py")
    assert len(reached) > 2
    missing = [module for module in sorted(reached) if not any(lies_in(module, entry) for entry in STAGES[stage])]
    assert missing == [], f"add them to {stage} in core/dependencies.py and to its deps in dvc.yaml"
    idle = [entry for entry in STAGES[stage] if not any(lies_in(module, entry) for module in reached)]
    assert idle == [], f"{stage} does not reach them: take them out of core/dependencies.py and dvc.yaml"


def test_dvc_watches_exactly_that_code() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    watched = {
        name: [dep for dep in stage.get("deps", []) if dep.startswith(("src/", "stages/"))]
        for name, stage in stages.items()
    }
    expected = {name: [f"stages/{name}.py", *(f"src/facerep/{part}" for part in STAGES[name])] for name in STAGES}
    assert watched == {"download": [], **expected}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_repository(tmp_path_factory.mktemp("clone") / "facerep")


def seen_by_dvc(clone: Path) -> dict[str, list[str]]:
    """Of each stage the hashes of its code, as DVC compares them with dvc.lock."""
    with Repo(str(clone)) as repo:
        stages = {stage.name: stage.deps for stage in repo.index.stages}
        return {
            name: [dep.get_hash().value for dep in deps if dep.def_path.startswith(("src/", "stages/"))]
            for name, deps in stages.items()
            if name in STAGES
        }


def seen_by_resuming(clone: Path) -> dict[str, str]:
    """Of each stage the part of the key of unfinished work that stands for its code."""
    spec = importlib.util.spec_from_file_location("clones", clone / "src" / "facerep" / "core" / "dependencies.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {stage: code_digest(module.code_of(stage)) for stage in STAGES}


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("figures/style.py", {"probe", "evaluate"}),  # no colour trains anything again
        ("figures/charts.py", {"probe", "evaluate"}),
        ("study/page/theme.py", set()),
        ("study/runs/plan.py", set()),
        ("cli.py", set()),
        ("core/progress.py", set()),
        ("resume/storage.py", set()),
        ("evaluate/pictures.py", {"probe", "evaluate"}),
        ("finetune/mixup.py", {"finetune"}),
        ("pretrain/colors.py", {"pretrain", "probe"}),  # a pretext is no matter of fine-tuning
        ("pretexts.py", {"pretrain", "probe"}),
        ("training/loop.py", {"pretrain", "probe", "finetune", "evaluate"}),
        ("nets/depthwise.c", {"pretrain", "probe", "finetune", "evaluate"}),
        ("select/rules.py", {"select"}),
        ("crop/cut.py", {"crop"}),
        ("synthetic/face.py", set()),  # the version in the URL says what is drawn
    ],
)
def test_an_edit_runs_these_stages_again_and_no_other(file: str, stages: set[str], clone: Path) -> None:
    """By DVC's own hashes, and by the key of what a kill has left."""
    edited = clone / "src" / "facerep" / file
    before, text = (seen_by_dvc(clone), seen_by_resuming(clone)), edited.read_text()
    edited.write_text(text + "\n")
    try:
        for old, new in zip(before, (seen_by_dvc(clone), seen_by_resuming(clone)), strict=True):
            assert {stage for stage in STAGES if old[stage] != new[stage]} == stages
    finally:
        edited.write_text(text)
