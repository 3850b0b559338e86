"""An object that is cut short, changed or deleted in the bucket is never taken for good, and is put right as we are told."""

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from facerep.remote.mend import find_remote, look, mend
from tests.support.faulty_bucket import Bucket, faulty_bucket
from tests.support.remotes import (
    GCSFS,
    Place,
    assert_right,
    assert_same,
    assert_sentence,
    cloned,
    object_of,
    point_at,
    pulled,
    pushed,
    remote,
    repository,
)
from tests.support.repository import sh


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("template")
    return pushed(repository(folder / "repo", files=3), folder / "bucket")


@pytest.fixture
def bucket(place: Place) -> Iterator[Bucket]:
    with faulty_bucket(place.bucket) as running:
        point_at(place.repo, running)
        yield running


def damage(bucket: Bucket, name: str, how: str) -> None:
    """As somebody else's program would have to do it, through the server."""
    content = bytearray(bucket.objects()[name].read_bytes())
    content[-1] ^= 1
    url = f"{bucket.address}/upload/storage/v1/b/facerep/o?uploadType=media&name={quote(name, safe='')}"
    request = urllib.request.Request(url, bytes(content[:100] if how == "cut short" else content))
    if how == "deleted":
        request = urllib.request.Request(
            f"{bucket.address}/storage/v1/b/facerep/o/{quote(name, safe='')}", method="DELETE"
        )
    with urllib.request.urlopen(request, timeout=10):
        pass


def test_a_damaged_object_is_refused_and_named(place: Place, bucket: Bucket, tmp_path: Path) -> None:
    """The rest of the story takes longer: below."""
    victim = object_of(place.repo / "single")
    damage(bucket, victim, "flipped")
    clone = cloned(place.repo, tmp_path / "clone", bucket)
    name = victim.removeprefix("dvc/files/md5/").replace("/", "")
    assert_sentence(remote(clone, "fetch"), f"damaged or missing in the bucket: 1 object ({name}); run ")
    assert_right(clone, place.repo)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "path", "command"),
    [
        ("flipped", "data/01", "pull"),
        ("cut short", "data/01", "fetch"),
        ("cut short", "single", "pull"),
        ("flipped", "single", "fetch"),
        ("deleted", "data/01", "pull"),
    ],
)
def test_damage_is_found_named_and_mended_as_the_sentence_says(
    how: str, path: str, command: str, place: Place, bucket: Bucket, tmp_path: Path
) -> None:
    """`dvc push` alone, and the deletion that it would want, leave the bucket as it is."""
    victim = object_of(place.repo / path)
    damage(bucket, victim, how)
    said = sh("dvc", "push", cwd=place.repo, env=GCSFS)
    assert "up to date" in said, "DVC looks at names"
    clone = cloned(place.repo, tmp_path / "clone", bucket)
    name = victim.removeprefix("dvc/files/md5/").replace("/", "")
    words = f"damaged or missing in the bucket: 1 object ({name}); run `facerep remote push` in a repository"
    assert_sentence(remote(clone, command), words)
    assert_right(clone, place.repo)
    code, said = remote(place.repo, "push")
    assert code == 0 and f"Uploaded what the bucket held wrongly or lacked: 1 object ({name})." in said
    assert_same(place.repo, pulled(clone))


@pytest.mark.slow
def test_damage_that_the_server_does_not_know_of_is_mended_as_the_sentence_says(
    place: Place, bucket: Bucket, tmp_path: Path
) -> None:
    """Behind its back a byte is flipped on its disk."""
    victim = object_of(place.repo / "data/01")
    file = bucket.objects()[victim]
    content = bytearray(file.read_bytes())
    content[1000] ^= 1
    file.write_bytes(content)
    clone = cloned(place.repo, tmp_path / "clone", bucket)
    words = "should it come damaged once more, delete it in the bucket before that push"
    assert_sentence(remote(clone, "fetch"), "damaged or missing in the bucket: 1 object", words)
    assert remote(place.repo, "push")[0] == 0
    assert_sentence(remote(clone, "pull"), "damaged or missing in the bucket: 1 object", words)
    assert_right(clone, place.repo)
    damage(bucket, victim, "deleted")
    assert remote(place.repo, "push")[0] == 0
    assert_same(place.repo, pulled(clone))


def test_many_kinds_of_damage_at_once(place: Place, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found without fetching; what this cache has not whole either is left, and named."""
    monkeypatch.chdir(place.repo)
    ours = find_remote(None)
    assert look(ours) == []
    names = {path: object_of(place.repo / path) for path in ("data/00", "data/01", "data/02", "single")}
    damage(bucket, names["data/00"], "flipped")
    damage(bucket, names["data/01"], "deleted")
    bucket.objects()[names["data/02"]].write_bytes(b"the server still gives the md5 of what it was")
    (folder,) = (name for name in bucket.objects() if name.endswith(".dir"))
    damage(bucket, names["single"], "cut short")
    kept = ours.kept(names["single"].removeprefix("dvc/files/md5/").replace("/", ""))
    kept.chmod(0o644)
    kept.write_bytes(b"damaged here, too")
    short = {path: name.removeprefix("dvc/files/md5/").replace("/", "") for path, name in names.items()}
    assert look(ours) == sorted(short.values())
    assert mend(ours) == (sorted(short[path] for path in ("data/00", "data/01", "data/02")), [short["single"]])
    for path in ("data/00", "data/01", "data/02"):
        assert bucket.objects()[names[path]].read_bytes() == (place.repo / path).read_bytes()
    assert look(ours) == [short["single"]]
    damage(bucket, folder, "deleted")
    assert look(ours) == [short["single"]], "a list that is not there names nothing: DVC pushes it again"


@pytest.mark.slow
def test_a_folder_without_its_list_is_pushed_again(place: Place, bucket: Bucket, tmp_path: Path) -> None:
    for name in list(bucket.objects()):
        if name.endswith(".dir") or name == object_of(place.repo / "data/01"):
            damage(bucket, name, "deleted")
    assert remote(place.repo, "push") == (0, "2 files pushed")
    assert_same(place.repo, pulled(cloned(place.repo, tmp_path / "clone", bucket)))
