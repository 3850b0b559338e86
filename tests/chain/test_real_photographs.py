"""The whole chain on real photographs, where they are there: LFW, and VGGFace2's sample with its genuine boxes. Slow."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.support.paths import DATA
from tests.support.repository import metrics, set_params, sh, tiny_repository

LFW_SHA256 = "23d666085a513dca169d331b5259112bdd70a4cf62b2479569891198a7a7c281"
QUICK = (
    "pretrain.epochs=2",
    "pretrain.warmup_ratio=0.5",
    "finetune.steps=200",
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.mark.skipif(not (DATA / "lfw-min2.tgz").is_file(), reason=f"needs {DATA / 'lfw-min2.tgz'}, which is not there")
def test_lfw_from_the_archive_to_the_pictures(tmp_path: Path) -> None:
    repo = tiny_repository(tmp_path / "facerep", {})
    sh("facerep", "preset", "lfw", cwd=repo)
    archives = f"download.archives=[{{url: lfw-min2.tgz, sha256: {LFW_SHA256}}}]"
    options = [option for change in (archives, *QUICK) for option in ("-S", change)]
    sh("dvc", "exp", "run", *options, cwd=repo, env={"FACEREP_MIRROR": str(DATA)})

    crop, select = metrics(repo, "crop"), metrics(repo, "select")
    assert crop["photographs"] == crop["faces"] == 9164
    assert crop["identities"] == 1680
    assert crop["found"]["detector"] > 0.98 * 9164
    assert select["labelled_identities"] == 62
    # Ari Fleischer 6 and 11 are one photograph, and so are two of Leslie Ann Woodward and of Prince Willem-Alexander
    assert select["dropped"]["duplicates_within_identity"] == 3
    assert select["dropped"]["duplicates_across_identities"] == 0
    assert select["faces"] == select["selected"] + sum(select["dropped"].values())
    chance = 1 / 62
    assert metrics(repo, "evaluate")["test"]["accuracy"] > 3 * chance
    assert metrics(repo, "pretrain")["val"]["accuracy"] > 0.5, "upright faces are easy: chance is 0.25"
    for picture in ("reconstructions.png", "turns.png", "confusions.png", "neighbours.png"):
        assert min(Image.open(repo / "metrics" / "evaluate" / picture).size) > 100


@pytest.mark.skipif(not (DATA / "vggface2").is_dir(), reason=f"needs {DATA / 'vggface2'}, which is not there")
def test_vggface2_photographs_among_drawn_ones_with_their_genuine_boxes(tmp_path: Path) -> None:
    """Six photographs of one person are no task by themselves, so drawn people stand beside her."""
    repo = tiny_repository(tmp_path / "facerep")
    params = repo / "params.yaml"
    drawn = {
        "url": "synthetic://faces.tar?train_identities=8&test_identities=4&photos=14&seed=0&version=1",
        "sha256": None,
    }
    genuine = [{"url": "vggface2_test_sample.tar.gz"}, {"url": "loose_bb_test.head.csv"}]
    set_params(params, {"download.archives": [drawn, *genuine], "select.min_labelled": 6, "crop.size": 112})
    sh("dvc", "repro", cwd=repo, env={"FACEREP_MIRROR": str(DATA / "vggface2")})

    rows = pq.read_table(repo / "data" / "faces" / "index.parquet").to_pylist()
    hers = [row for row in rows if row["identity"] == "n000106"]
    assert len(hers) == 6
    assert {row["found"] for row in hers} == {"box"}
    assert {row["split"] for row in hers} == {"test"}
    roles = pq.read_table(repo / "data" / "selection.parquet").to_pylist()
    assert sorted(row["role"] for row in roles if row["identity"] == "n000106") == [
        "test",
        "test",
        "train",
        "train",
        "train",
        "val",
    ]
    names = json.loads((repo / "models" / "finetuned" / "config.json").read_text())["id2label"].values()
    assert "n000106" in names
