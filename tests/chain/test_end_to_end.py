"""One tiny `dvc repro`, real in every part, and what a user does with it: experiments, resumption, the remote."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from facerep.faces.roles import read_selection
from facerep.faces.shards import ShardReader
from tests.support.gcs import running_server
from tests.support.repository import contents, metrics, set_params, sh, tiny_repository


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny repository after its first `dvc repro`, committed."""
    repo = tiny_repository(tmp_path_factory.mktemp("repository") / "facerep")
    sh("dvc", "repro", cwd=repo)
    sh("git", "add", ".", cwd=repo)
    sh("git", "commit", "-qm", "first run", cwd=repo)
    return repo


def test_the_chain_fills_every_metric_that_is_promised(repository: Path) -> None:
    evaluated = metrics(repository, "evaluate")
    assert 0 <= evaluated["test"]["accuracy"] <= evaluated["test"]["top5"] <= 1
    for measure in ("accuracy", "balanced_accuracy"):
        low, high = evaluated["test"][f"{measure}_ci95"]
        assert low <= evaluated["test"][measure] <= high
    assert evaluated["test"]["chance"] == 1 / evaluated["test"]["classes"]
    assert metrics(repository, "finetune")["measure"] in ("accuracy", "balanced_accuracy")
    probed = metrics(repository, "probe")
    assert set(probed["probe"]["by_labels"]) == {"1", "2"}
    assert 0 <= probed["probe"]["accuracy"] <= 1
    assert 0 <= probed["knn"]["accuracy"] <= 1
    assert {"auc", "eer", "accuracy", "accuracy_std", "tar_at_far_1e-2", "impostor_pairs"} <= set(
        probed["verification"]
    )
    pretrained = metrics(repository, "pretrain")
    assert {"accuracy", "psnr", "loss"} <= set(pretrained["val"])
    left = [path for path in (repository / "scratch").glob("*") if path.is_dir() and path.name != "download"]
    assert not left, "the state of a run that is done is thrown away"


def test_the_accuracies_are_what_other_libraries_find(repository: Path) -> None:
    """Test accuracy by transformers on Pillow's pixels; nearest neighbours by scikit-learn on AutoModel's features."""
    import torch
    from PIL import Image
    from sklearn.neighbors import KNeighborsClassifier
    from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification

    def load(role: str) -> tuple[torch.Tensor, list[str]]:
        rows = read_selection(repository / "data" / "selection.parquet", role).to_pylist()
        reader = ShardReader(repository / "data" / "faces")
        faces = [Image.open(io.BytesIO(reader.read(r["shard"], r["offset"], r["length"]))) for r in rows]
        return processor(faces, return_tensors="pt")["pixel_values"], [r["identity"] for r in rows]

    processor = AutoImageProcessor.from_pretrained(repository / "models" / "finetuned")
    classifier = AutoModelForImageClassification.from_pretrained(repository / "models" / "finetuned").eval()
    backbone = AutoModel.from_pretrained(repository / "models" / "pretrained").eval()
    (train, train_names), (test, test_names) = load("train"), load("test")
    with torch.no_grad():
        told = [classifier.config.id2label[int(n)] for n in classifier(test).logits.argmax(1)]
        features = [backbone(images).pooler_output.numpy() for images in (train, test)]
    right = sum(a == b for a, b in zip(told, test_names, strict=True)) / len(test_names)
    assert metrics(repository, "evaluate")["test"]["accuracy"] == pytest.approx(right)
    theirs = KNeighborsClassifier(
        5, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.07)
    ).fit(features[0], train_names)
    expected = pytest.approx(theirs.score(features[1], test_names), abs=1.5 / len(test_names))
    assert metrics(repository, "probe")["knn"]["accuracy"] == expected


def test_nothing_runs_twice(repository: Path) -> None:
    assert "Data and pipelines are up to date." in sh("dvc", "repro", cwd=repository)


def test_the_models_load_in_transformers_and_say_what_ours_say(repository: Path) -> None:
    import torch
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification

    from facerep.faces.pixels import FacePixels
    from facerep.faces.transforms import normalize, to_float
    from facerep.nets.convnext import load_backbone, load_classifier

    rows = read_selection(repository / "data" / "selection.parquet", "test").slice(0, 4)
    ours = normalize(to_float(FacePixels(repository / "data" / "faces", rows, 32).__getitems__(range(4)).images))
    reader = ShardReader(repository / "data" / "faces")
    photographs = [Image.open(io.BytesIO(reader.read(r["shard"], r["offset"], r["length"]))) for r in rows.to_pylist()]
    for folder, auto, load in (
        ("pretrained", AutoModel, load_backbone),
        ("finetuned", AutoModelForImageClassification, load_classifier),
    ):
        processor = AutoImageProcessor.from_pretrained(repository / "models" / folder)
        inputs = processor(photographs, return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(inputs, ours, rtol=0, atol=1e-6)
        model = auto.from_pretrained(repository / "models" / folder).eval()
        torch.testing.assert_close(model(inputs)[0], load(repository / "models" / folder).eval()(ours)[0])
    labels = sorted(
        {r["identity"] for r in read_selection(repository / "data" / "selection.parquet", "test").to_pylist()}
    )
    assert [model.config.id2label[n] for n in range(len(labels))] == labels


def test_another_pretext_reruns_from_pretrain_and_going_back_restores(repository: Path) -> None:
    before = contents(repository / "models", repository / "metrics")
    out = sh("dvc", "exp", "run", "-S", "pretext=original", cwd=repository)
    for stage in ("download", "crop", "select"):
        assert f"Stage '{stage}' didn't change, skipping" in out
    for stage in ("pretrain", "probe", "finetune", "evaluate"):
        assert f"Running stage '{stage}'" in out
    assert metrics(repository, "pretrain")["pretext"] == "original"
    assert metrics(repository, "pretrain")["epochs"] == 0
    back = sh("dvc", "exp", "run", "-S", "pretext=rotated_grayscale", cwd=repository)
    assert "Running stage" not in back
    assert contents(repository / "models", repository / "metrics") == before
    assert "rotated_grayscale" in sh("dvc", "exp", "show", "--no-pager", "--md", cwd=repository)


def test_another_seed_of_the_labelled_task_pretrains_nothing(repository: Path) -> None:
    before = contents(repository / "data", repository / "models", repository / "metrics")
    set_params(repository / "params.yaml", {"seed": 1})
    out = sh("dvc", "repro", "pretrain", cwd=repository)
    assert "Running stage 'select'" in out
    assert "Stage 'pretrain' didn't change, skipping" in out
    after = contents(repository / "data", repository / "models", repository / "metrics")
    assert after["data/selection.parquet"] != before["data/selection.parquet"]
    assert after["data/pretraining.parquet"] == before["data/pretraining.parquet"]
    sh("git", "checkout", "-q", ".", cwd=repository)
    sh("dvc", "checkout", "-q", cwd=repository)


def test_dvc_watches_the_list_of_excluded_photographs(repository: Path) -> None:
    keys = read_selection(repository / "data" / "selection.parquet", "pretrain")["key"].to_pylist()
    set_params(repository / "params.yaml", {"select.exclude": "lists/few.txt"})
    (repository / "lists").mkdir()
    for number in (1, 2):
        (repository / "lists" / "few.txt").write_text("\n".join(keys[:number]))
        assert "Running stage 'select'" in sh("dvc", "repro", "select", cwd=repository)
        assert metrics(repository, "select")["dropped"]["excluded"] == number
    assert "didn't change, skipping" in sh("dvc", "repro", "-s", "select", cwd=repository)
    shutil.rmtree(repository / "lists")
    sh("git", "checkout", "-q", ".", cwd=repository)
    sh("dvc", "checkout", "-q", cwd=repository)
    assert "Data and pipelines are up to date." in sh("dvc", "repro", "select", cwd=repository)


def test_a_mistyped_parameter_stops_before_any_work(repository: Path) -> None:
    out = sh("dvc", "exp", "run", "-S", "pretext=grayscal", cwd=repository, ok=False)
    assert "pretext = 'grayscal'" in out
    assert "one of original, rotated, grayscale, rotated_grayscale" in out
    assert "Traceback" not in out.split("ERROR")[0]


@pytest.mark.slow
def test_a_queue_runs_variants(repository: Path) -> None:
    sh("git", "checkout", "-q", ".", cwd=repository)
    sh("dvc", "checkout", "-q", cwd=repository)
    sh("dvc", "exp", "run", "--queue", "-S", "pretext=original,rotated_grayscale", cwd=repository)
    sh("dvc", "exp", "run", "--run-all", cwd=repository)
    shown = json.loads(sh("dvc", "exp", "show", "--json", cwd=repository))
    names = {e["name"] for row in shown for e in row.get("experiments") or [] for e in e["revs"] if e.get("name")}
    assert len(names) >= 2


@pytest.mark.slow
@pytest.mark.timeout(900)  # two processes for each stage, and the first run before them
@pytest.mark.parametrize("launcher", ["torchrun --nproc-per-node=2", "torchrun --nproc-per-node 2"])
def test_two_processes_train_the_same_and_the_first_alone_writes(launcher: str, repository: Path) -> None:
    """As docs/gpu.md has it; a launcher with = in it wants quotes inside the quotes."""
    sh("git", "checkout", "-q", ".", cwd=repository)
    sh("dvc", "checkout", "-q", cwd=repository)
    alone = {stage: metrics(repository, stage) for stage in ("pretrain", "finetune")}
    quoted = f"'{launcher}'" if "=" in launcher else launcher
    out = sh("dvc", "exp", "run", "-f", "-S", f"launcher={quoted}", "evaluate", cwd=repository)
    assert f"> {launcher} -m stages.pretrain" in out
    for stage, expected in alone.items():
        assert json.loads((repository / "speed" / f"{stage}.json").read_text())["processes"] == 2
        got = metrics(repository, stage)
        assert got["epochs"] == expected["epochs"]
        assert got["val"]["loss"] == pytest.approx(expected["val"]["loss"], rel=0.02)
        assert got["val"]["photographs"] == expected["val"]["photographs"]
    written = {str(path.relative_to(repository)) for path in repository.rglob(".*.part")}
    assert not written, "nothing half-written is left"


@pytest.mark.slow
def test_a_relative_mirror_is_found_from_an_experiments_temporary_copy_too(repository: Path) -> None:
    sh("git", "checkout", "-q", ".", cwd=repository)
    sh("dvc", "checkout", "-q", cwd=repository)
    mirror = repository.parent / "mirror"
    mirror.mkdir()
    shutil.copy(repository / "data" / "raw" / "faces.tar", mirror / "people.tar")
    change = "download.archives=[{url: people.tar}]"
    out = sh(
        "dvc", "exp", "run", "--temp", "-S", change, "download", cwd=repository, env={"FACEREP_MIRROR": "../mirror"}
    )
    assert "Running stage 'download'" in out
    sh("dvc", "exp", "run", "--temp", "-S", change, "download", cwd=repository, ok=True)  # from the run cache


def test_the_example_runs(repository: Path) -> None:
    sh("git", "checkout", "-q", ".", cwd=repository)
    sh("dvc", "checkout", "-q", cwd=repository)
    out = sh("python", "examples/dataset_use.py", cwd=repository)
    assert [line.split()[0] for line in out.splitlines()] == ["original", "rotated", "grayscale", "rotated_grayscale"]
    assert "(8, 3, 32, 32) → (8, 3076)" in out, "4 turns and 3·32·32 pixels"


def test_the_plots_are_drawn(repository: Path) -> None:
    out = sh("dvc", "plots", "show", "--out", "page", cwd=repository)
    assert "index.html" in out
    page = (repository / "page" / "index.html").read_text()
    for title in (
        "Loss of the pretext",
        "Accuracy of fine-tuning",
        "Verification, ROC",
        "Confusions",
        "reconstructions.png",
    ):
        assert title in page
    shutil.rmtree(repository / "page")


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[str]:
    """The address of a real Google Cloud Storage server on loopback, with the bucket `facerep`."""
    with running_server("facerep") as address:
        yield address


@pytest.mark.slow
def test_the_remote_gives_every_byte_back(repository: Path, bucket: str, tmp_path: Path) -> None:
    env = {"GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
    outputs = [repository / "data", repository / "models"]
    sh("git", "checkout", "-q", ".", cwd=repository)
    sh("dvc", "checkout", "-q", cwd=repository)
    before = contents(*outputs)
    for repo in (repository, clone(repository, tmp_path / "clone")):
        sh("facerep", "remote", "use", "--local", "gs://facerep/dvc", cwd=repo)
        sh("dvc", "remote", "modify", "--local", "storage", "endpointurl", bucket, cwd=repo)
        sh("dvc", "remote", "modify", "--local", "storage", "allow_anonymous_login", "true", cwd=repo)
    sh("dvc", "push", "--run-cache", cwd=repository, env=env)
    shutil.rmtree(repository / "data")
    shutil.rmtree(repository / "models")
    shutil.rmtree(repository / ".dvc" / "cache")
    sh("dvc", "pull", "--run-cache", cwd=repository, env=env)
    assert contents(*outputs) == before

    fresh = tmp_path / "clone"
    out = sh("dvc", "repro", "--pull", cwd=fresh, env=env)
    assert "Running stage" not in out
    assert contents(fresh / "data", fresh / "models") == before
    assert sh("git", "status", "--porcelain", cwd=fresh) == ""


def clone(repository: Path, folder: Path) -> Path:
    sh("git", "clone", "-q", str(repository), str(folder), cwd=repository)
    return folder
