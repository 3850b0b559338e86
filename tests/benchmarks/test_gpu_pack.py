"""What a machine with a GPU and without a network gets: it lacks nothing more, the faces are those that were cut."""

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from benchmarks import gpu_pack
from facerep.core.errors import FacerepError
from facerep.faces.roles import read_selection
from facerep.faces.shards import ShardReader, read_index
from facerep.params import load_params
from tests.support.paths import ROOT

# Imports what benchmarks/gpu.sh imports where all but these packages, and what they need in turn, are not there.
ALONE = """
import importlib, re, sys
from importlib import metadata
from packaging.requirements import Requirement

def name_of(text):
    return re.sub("[-_.]+", "-", text).lower()

def with_needs(names):
    found, waiting = set(), [name_of(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        try:
            needs = map(Requirement, metadata.requires(name) or ())
        except metadata.PackageNotFoundError:
            continue  # not here either: a peer
        waiting += [name_of(r.name) for r in needs if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found

has, wheels, modules = (words.split() for words in sys.argv[1:])
there = with_needs(has) | {name_of(name) for name in wheels} | {"facerep"}
owners = {module: {name_of(name) for name in names} for module, names in metadata.packages_distributions().items()}

class Gate:
    # a finder that does not find what is not there

    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        owned = owners.get(name.partition(".")[0])
        return None if owned and not owned & there else self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Gate, sys.meta_path)
try:
    import dvc
    sys.exit("the gate is open")
except ModuleNotFoundError:
    pass
for module in modules:
    importlib.import_module(module)
from benchmarks.steps import settings_of_pretraining
from facerep.pretrain.pretext import Pretext
Pretext("rotated_grayscale+simclr", settings_of_pretraining())  # whose questions are imported by name
from benchmarks.data import draw_faces
assert len(draw_faces(2, 64)) == 2
"""


@pytest.mark.slow
def test_training_and_its_benchmarks_import_what_the_machine_has_and_the_wheels_alone() -> None:
    marked = [path for path in (ROOT / "tests").rglob("*.py") if "\n@pytest.mark.gpu" in path.read_text()]
    tested = sorted(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in marked)
    assert len(tested) >= 4
    modules = [
        "facerep.resume.stopping",
        "stages",
        "facerep.pretrain.stage",
        "facerep.finetune.stage",
        "facerep.evaluate.pretrained",
        *tested,
    ]
    modules += [f"benchmarks.{name}" for name in ("train_step", "loader", "gpu_pretrain")]
    words = [" ".join(names) for names in (gpu_pack.HAS, gpu_pack.WHEELS, modules)]
    done = subprocess.run([sys.executable, "-c", ALONE, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_wheel_is_pinned() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert all(re.search(rf"^{re.escape(name)}==", lock, re.MULTILINE) for name in gpu_pack.WHEELS)


@pytest.mark.slow
def test_the_wheels_are_those_of_the_pinned_versions(tmp_path: Path) -> None:
    gpu_pack.fetch_wheels(tmp_path, "3.12", ("pydantic-core", "ruamel-yaml"))
    lock = (ROOT / "requirements.lock").read_text()
    found = sorted(path.name for path in tmp_path.iterdir())
    for name, wheel in zip(("pydantic-core", "ruamel-yaml"), found, strict=True):
        version = re.search(rf"^{name}==(\S+)", lock, re.MULTILINE)
        assert version is not None and wheel.startswith(f"{name.replace('-', '_')}-{version[1]}-")
        assert wheel.endswith(".whl") and ("cp312" in wheel or "none-any" in wheel)


def test_a_wheel_that_is_not_pinned_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        gpu_pack.main(["--into", str(tmp_path / "pack"), "--wheels", "no-such-package"])
    assert "requirements.lock: does not pin no-such-package" in str(end.value.code)


@pytest.mark.parametrize("trouble", ["no data", "too large"])
def test_data_that_cannot_be_packed_is_a_sentence_and_the_old_pack_stays(
    trouble: str, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_pack, "fetch_wheels", lambda folder, *_: (folder / "a.whl").write_bytes(bytes(2**20)))
    (tmp_path / "data.tar.gz").write_bytes(b"of before")
    (tmp_path / "else").touch()
    data = tmp_path if trouble == "no data" else data_folder
    with pytest.raises(SystemExit) as end:
        gpu_pack.main(["--into", str(tmp_path), "--data", str(data), "--mb", "1.01"])
    assert ("index.parquet: not there" if trouble == "no data" else "more than --mb 1.01; raise it") in str(
        end.value.code
    )
    assert (tmp_path / "data.tar.gz").read_bytes() == b"of before"
    assert {path.name for path in tmp_path.iterdir()} == {"data.tar.gz", "else", "wheels"}


def test_the_packed_faces_are_the_same_bytes_and_the_rest_is_as_many_as_fit(data_folder: Path, tmp_path: Path) -> None:
    """All of the first part, of the second those that a larger pack takes first; and their roles."""
    settings = load_params(ROOT / "params.yaml").select.model_copy(update={"min_labelled": 6})
    faces = data_folder / "faces"
    whole = read_index(faces / "index.parquet")
    reader = ShardReader(faces)
    given = {row["sha256"]: reader.read(row["shard"], row["offset"], row["length"]) for row in whole.to_pylist()}
    need = sum(map(gpu_pack.packed_size, given.values()))
    keys = []
    for number, share in enumerate((1.3, 1.7)):
        out = gpu_pack.chosen([faces, faces], settings, tmp_path / str(number), int(share * need))
        index = read_index(out / "faces" / "index.parquet")
        got = ShardReader(out / "faces")
        for row in index.to_pylist():
            assert got.read(row["shard"], row["offset"], row["length"]) == given[row["sha256"]]
        keys.append(index["key"].to_pylist())
        assert keys[-1][: len(whole)] == whole["key"].to_pylist()
        assert {"pretrain", "train", "val", "test"} == set(
            read_selection(out / "selection.parquet")["role"].to_pylist()
        )
    fewer, more = (set(some[len(whole) :]) for some in keys)
    assert fewer < more
    assert 0.2 < len(fewer) / len(whole) < 0.4 and 0.6 < len(more) / len(whole) < 0.8
    with pytest.raises(FacerepError, match="do not fit; raise --mb"):
        gpu_pack.chosen([faces], settings, tmp_path / "none", need // 2)


def test_a_pack_is_the_same_bytes_each_time_and_holds_the_data(data_folder: Path, tmp_path: Path) -> None:
    """Somebody's own data, through the command."""
    packs = []
    for name in ("a", "b"):
        gpu_pack.pack(data_folder, tmp_path / f"{name}.tar.gz")
        packs.append((tmp_path / f"{name}.tar.gz").read_bytes())
    assert packs[0] == packs[1]
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        tar.extractall(tmp_path / "out", filter="data")
    for name in ("selection.parquet", "pretraining.parquet"):
        assert (tmp_path / "out/data" / name).read_bytes() == (data_folder / name).read_bytes()
    for path in (data_folder / "faces").iterdir():
        assert (tmp_path / "out/data/faces" / path.name).read_bytes() == path.read_bytes()
