"""A first look at a folder of photographs, real in every part: what it refuses, what it says, and its model in models/.

DVC's queue runs it. The photographs are scikit-learn's digits.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from facerep.cli import app
from tests.support.paths import ROOT
from tests.support.repository import contents, sh, tiny_repository

COMMAND = ("facerep", "study", "studies/folder.yaml", "--first-look")
CLASSES = {0: "zero", 1: "one", 3: "three"}
DIGITS = load_digits()
NAME = re.compile(r"folder-original-\d-s0-[0-9a-f]{8}")


def draw(folder: Path, each: int, unlabelled: int) -> None:
    pixels = np.rint(DIGITS.images * 255 / 16).astype(np.uint8)
    for digit, name in CLASSES.items():
        (folder / "labelled" / name).mkdir(parents=True)
        for n in np.flatnonzero(DIGITS.target == digit)[:each]:
            Image.fromarray(pixels[n]).save(folder / "labelled" / name / f"{n}.png")
    (folder / "scans").mkdir()
    for n in np.flatnonzero(DIGITS.target > 3)[:unlabelled]:
        Image.fromarray(pixels[n]).save(folder / "scans" / f"{n}.png")


def write_study(repo: Path, labelled: Path, unlabelled: Path) -> None:
    """studies/folder.yaml with these two paths, and less training."""
    study = yaml.safe_load((ROOT / "studies" / "folder.yaml").read_text())
    study["seeds"], study["budgets"] = [0, 1], {4: {}, 8: {}}
    study["variants"] = {name: about for name, about in study["variants"].items() if not about.get("needs_hub")}
    study["tune"] |= {"seeds": [0], "labels": [8]}
    study["tune"] |= {"grid": {"finetune.learning_rate": [0.002, 0.004]}, "beyond": 0}
    archives = [{"url": str(labelled)}, {"url": str(unlabelled), "name": "unlabelled.tar"}]
    study["set"] |= {
        "download.archives": archives,
        "crop.size": 32,
        "model.image_size": 32,
        "finetune.steps": 16,
        "pretrain.epochs": 2,
    }
    study["set"] |= {"finetune.score_every": 8, "select.min_labelled": 20, "evaluate.bootstrap": 100}
    (repo / "studies").mkdir(exist_ok=True)
    (repo / "studies" / "folder.yaml").write_text(yaml.safe_dump(study, sort_keys=False))


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("look")
    repo = tiny_repository(folder / "my facerep", {})
    draw(folder / "photographs", each=24, unlabelled=12)
    write_study(repo, folder / "photographs" / "labelled", folder / "photographs" / "scans")
    sh("git", "add", ".", cwd=repo)
    sh("git", "commit", "-qm", "the study", cwd=repo)
    return repo


def said(repo: Path, *more: str, command: tuple[str, ...] = COMMAND, ok: bool = False) -> str:
    text = sh(*command, *more, cwd=repo, ok=ok)
    assert "Traceback" not in text
    return text.strip()


def experiments(repo: Path) -> list[str]:
    return sorted(sh("git", "for-each-ref", "--format=%(refname:lstrip=4)", "refs/exps/*/*/folder-*", cwd=repo).split())


def test_the_paths_of_nobody_are_refused_before_anything_is_queued(repo: Path) -> None:
    before = (repo / "studies" / "folder.yaml").read_text()
    write_study(repo, Path("/path/to/labelled"), Path("/path/to/unlabelled"))
    text = said(repo)
    assert text.startswith("study: /path/to/labelled: no such file or folder; correct download.archives")
    assert text.count("\n") == 0
    assert sh("dvc", "queue", "status", cwd=repo).splitlines()[0] == "No experiment tasks in the queue."
    (repo / "studies" / "folder.yaml").write_text(before)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--first-look", "--seeds", "0"], "study: --first-look: chooses its runs itself; leave out --seeds"),
        (["--first-look", "--apply", "original"], "--apply: runs nothing"),
        (["--apply", "rotate"], "--apply rotate: none of original, rotated"),
        (
            ["--apply", "original"],
            "--apply original: no run of it is there yet; make them with `facerep study studies/folder.yaml`.",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(
    repo: Path, options: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repo)
    result = CliRunner().invoke(app, ["study", "studies/folder.yaml", *options])
    assert result.exit_code == 1
    assert words in result.output and result.output.count("\n") == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_when_every_run_fails_the_reason_is_said(repo: Path, tmp_path: Path) -> None:
    """It is in the log of the first that failed; those that wait or begin just then are ended without a traceback."""
    draw(tmp_path, each=24, unlabelled=12)
    for path in (tmp_path / "labelled").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:40])
    before = (repo / "studies" / "folder.yaml").read_text()
    write_study(repo, tmp_path / "labelled", tmp_path / "scans")
    text = said(repo, "--jobs", "1", command=("facerep", "study", "studies/folder.yaml"))
    last = text.splitlines()[-1]
    assert re.match(r"study: \d+ of \d+ runs failed, folder-\w+-8-s0-[0-9a-f]{8} first: crop: ", last), text
    assert "crop.max_unreadable" in last and "run the same command again" in last
    assert re.search(rf"^folder: tuning: {NAME.pattern} started$", text, re.M)
    assert re.search(rf"^folder: tuning: 1 of \d+: {NAME.pattern} failed in \d+ s$", text, re.M)
    assert experiments(repo) == []
    (repo / "studies" / "folder.yaml").write_text(before)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_first_look_says_how_well_the_labels_alone_do(repo: Path) -> None:
    text = said(repo, ok=True)
    assert len(experiments(repo)) == 3, "two learning rates with 8 labels, and 4 labels"
    assert re.search(
        rf"^folder: 1 of 1: {NAME.pattern} done, (balanced )?accuracy on val \d+\.\d % in \d+ s$", text, re.M
    )
    lines = text.splitlines()
    assert re.fullmatch(
        r"original with 4 labels of each class: (balanced )?accuracy \d+\.\d % on test; chance is 33\.3 %\.",
        lines[-3],
    )
    assert lines[-2].startswith("original with 8 labels")
    # 7 variants × 2 budgets × 2 seeds, and of tuning one more for each variant, without the three
    remain = (
        r"32 runs, about .* of this machine with \d jobs? \(an estimate\), remain; `facerep study .* --jobs \d` makes "
    )
    assert re.fullmatch(remain + r"them\.", lines[-1])
    about = json.loads((repo / "results" / "folder" / "about.json").read_text())
    assert about["remaining"]["runs"] == 32 and about["remaining"]["hours"] > 0
    page = (repo / "results" / "folder" / "index.html").read_text()
    assert f"{about['remaining']['sentence']}, so every number on this page may still change." in page
    assert said(repo, ok=True).endswith(lines[-1]), "a second time nothing runs"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_best_model_comes_into_models_and_goes_again(repo: Path) -> None:
    """Needs the experiments of the test before."""
    apply = ("facerep", "study", "studies/folder.yaml", "--apply", "original")
    params = (repo / "params.yaml").read_text()
    (repo / "params.yaml").write_text(params.replace("seed: 0", "seed: 7"))
    assert said(repo, command=apply).startswith("study: params.yaml: changed since the last commit, and would be lost;")
    (repo / "params.yaml").write_text(params)
    text = said(repo, command=apply, ok=True)
    (name,) = {*NAME.findall(text)}
    assert text.startswith(
        f"models/finetuned and models/pretrained are those of {name}: of 1 seed, seed 0 has the best"
    )
    assert yaml.safe_load((repo / "params.yaml").read_text())["finetune"]["labels_per_identity"] == 8
    assert {"finetuned/model.safetensors", "pretrained/model.safetensors"} <= {
        path.removeprefix("models/") for path in contents(repo / "models")
    }
    assert "Data and pipelines are up to date" in sh("dvc", "status", cwd=repo)
    assert re.search(r"`git checkout -- .*params.yaml`; it has no dvc.lock, so that `dvc repro` makes", text)
    assert said(repo, command=apply, ok=True) == text, "what it applied itself it does not take for changes"
    sh("git", "checkout", "-q", ".", cwd=repo)
    sh("dvc", "checkout", "-q", cwd=repo)
    assert (repo / "params.yaml").read_text() == params
    lock = yaml.safe_load(sh("git", "show", f"{ref(repo, name)}:dvc.lock", cwd=repo))
    (model,) = (out["md5"] for out in lock["stages"]["finetune"]["outs"] if out["path"] == "models/finetuned")
    (repo / ".dvc" / "cache" / "files" / "md5" / model[:2] / model[2:]).unlink()
    assert said(repo, command=apply) == (
        f"study: {name}: its models/finetuned is not in this clone's DVC cache; bring it here with "
        f"`dvc exp pull origin {name}`."
    )
    sh("git", "update-ref", "-d", ref(repo, name), cwd=repo)
    assert "is not among this clone's experiments" in said(repo, command=apply)


def ref(repo: Path, name: str) -> str:
    return sh("git", "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}", cwd=repo).strip()
