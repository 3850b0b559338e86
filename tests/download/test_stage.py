import os
import subprocess
import sys
import tarfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from facerep.core.errors import FacerepError
from facerep.download.stage import download
from facerep.params import Archive, Download
from tests.support import loopback
from tests.support.loopback import MIB, get, raw, raw_is_empty, refusal, scratch, sha256, tar_of
from tests.support.nobody import open_folder, said_as_nobody

serve, repository = loopback.serve, loopback.repository
pytestmark = pytest.mark.usefixtures("repository")


def test_metrics_and_files_in_order_and_nothing_else(serve: Any) -> None:
    one, two, table = serve(tar_of(1000, 1)), serve(tar_of(2000, 2)), serve(b"NAME_ID,X,Y,W,H\n")
    for old in ("data/raw/old.tar", "data/raw/folder/x", "data/raw/a.tar"):
        Path(old).parent.mkdir(parents=True, exist_ok=True)
        Path(old).write_bytes(b"old")
    metrics = get(two.url("b.tar"), one.url("a.tar?download=true"), table.url("boxes.csv"))
    assert raw() == {"a.tar": one.content, "b.tar": two.content, "boxes.csv": table.content}
    assert metrics == {
        "files": 3,
        "bytes": len(one.content + two.content + table.content),
        "archives": [
            {
                "name": name,
                "bytes": len(web.content),
                "sha256": sha256(web.content),
                "scheme": "http",
                "passed_over": {},
            }
            for name, web in (("b.tar", two), ("a.tar", one), ("boxes.csv", table))
        ],
        "notes": [],
    }
    assert scratch() == []


def test_a_name_given_beside_the_url_also_finds_the_mirrors_file(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = serve(tar_of(10))
    named = Download(archives=[Archive(url=web.url("5976018?x=1"), name="lfw.tgz")])
    assert download(named, "data/raw")["archives"][0]["name"] == "lfw.tgz"
    assert raw() == {"lfw.tgz": web.content}
    monkeypatch.setenv("FACEREP_MIRROR", str(tmp_path))
    for in_mirror, content in (("lfw.tgz", tar_of(20)), ("5976018", tar_of(30))):  # the URL's own name goes first
        (tmp_path / in_mirror).write_bytes(content)
        download(named, "data/raw")
        assert raw() == {"lfw.tgz": content}


def test_an_archive_that_came_is_kept_while_a_later_one_fails(serve: Any) -> None:
    first, second = serve(tar_of(5 * MIB)), serve(tar_of(10), statuses=[404])
    refusal(first.url("first.tar"), second.url("second.tar"))
    get(first.url("first.tar"), second.url("second.tar"))
    assert raw() == {"first.tar": first.content, "second.tar": second.content}
    assert first.served == len(first.content)  # the second run asked and heard that nothing was missing


def test_a_whole_part_of_known_sha256_needs_no_network(serve: Any) -> None:
    first, second = serve(tar_of(MIB)), serve(tar_of(10), statuses=[404])
    archives = [Archive(url=first.url("1.tar"), sha256=sha256(first.content)), Archive(url=second.url("2.tar"))]
    with pytest.raises(FacerepError):
        download(Download(archives=archives), "data/raw")
    download(Download(archives=archives), "data/raw")
    assert first.asked == [None]


def test_a_wrong_sha256_names_all_and_leaves_nothing(serve: Any) -> None:
    web = serve(tar_of(1000))
    text = refusal(web.url(), sha256="0" * 64)
    for part in ("faces.tar", web.url(), "0" * 64, sha256(web.content), "run again"):
        assert part in text
    assert raw_is_empty() and scratch() == []
    get(web.url(), sha256=sha256(web.content))
    assert web.asked == [None, None]


def test_a_page_instead_of_an_archive_is_refused(serve: Any) -> None:
    web = serve(b"<html>Please log in</html>")
    assert "not an archive" in refusal(web.url())
    assert raw_is_empty() and scratch() == []


@pytest.mark.parametrize(
    "url", ["https://example.org/", "https://example.org", "gs://bucket/folder/", "memory://.hidden"]
)
def test_a_url_without_a_name_is_refused_before_any_work(url: str) -> None:
    assert f"{url}: does not end in a file name" in refusal(url)


@pytest.mark.parametrize("url", [r"C:\data\labelled", "c:/data/labelled"])
def test_a_path_of_windows_is_told_how_it_is_written_here(url: str) -> None:
    assert refusal(url).startswith(f"{url}: is a path of Windows; under WSL it is written /mnt/c/data/labelled")


def test_a_folder_below_a_closed_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_folder() as here:
        monkeypatch.chdir(here)
        (here / "closed" / "labelled").mkdir(parents=True)
        (here / "closed").chmod(0)
        said = said_as_nobody(lambda: get("closed/labelled"))
        (here / "closed").chmod(0o755)
        assert said.startswith(
            f"FacerepError: {here}/closed/labelled: this user may not read it, since it may not enter"
        )


@pytest.mark.parametrize("fixed", [".", "scratch", "data/raw"])
def test_a_destination_that_may_not_be_written_is_named(fixed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_folder() as here:
        for folder in ("labelled/ant", ".dvc", "scratch", "data/raw"):
            (here / folder).mkdir(parents=True)
        for folder in ("data", "scratch", "data/raw", "."):
            (here / folder).chmod(0o755 if folder == fixed or fixed == "." else 0o777)
        if os.geteuid():
            (here / fixed).chmod(0o555)
        (here / "labelled" / "ant" / "1.jpg").write_bytes(b"1")
        monkeypatch.chdir(here)
        said = said_as_nobody(lambda: get("labelled"))
        (here / fixed).chmod(0o777)
        assert said.startswith("FacerepError: ") and "this user may not write there" in said, said
        assert str(here / fixed) in said or fixed in said


def test_two_archives_of_one_name_are_refused_before_any_work(serve: Any) -> None:
    web = serve(tar_of(10))
    assert "two archives are called faces.tar" in refusal(web.url(), web.url() + "?again")
    assert web.asked == []


def test_an_unknown_scheme_is_refused() -> None:
    assert "nosuch" in refusal("nosuch://x/faces.tar")


@pytest.mark.parametrize("relative", [False, True])
def test_the_mirror_comes_before_any_network(relative: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = tar_of(3000)
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "lfw.tgz").write_bytes(content)
    monkeypatch.setenv("FACEREP_MIRROR", "../mirror" if relative else str(tmp_path / "mirror"))
    metrics = get("https://facerep.invalid/sets/lfw.tgz", sha256=sha256(content))
    assert raw() == {"lfw.tgz": content}
    assert metrics["archives"] == [
        {"name": "lfw.tgz", "bytes": len(content), "sha256": sha256(content), "scheme": "https", "passed_over": {}}
    ]
    assert (tmp_path / "mirror" / "lfw.tgz").read_bytes() == content
    assert not Path("data/raw/lfw.tgz").samefile(tmp_path / "mirror" / "lfw.tgz")
    assert str(tmp_path / "mirror" / "lfw.tgz") in refusal("https://facerep.invalid/sets/lfw.tgz", sha256="0" * 64)


@pytest.mark.parametrize(
    ("named", "folder"),
    [("elsewhere", "elsewhere"), ("file://{tmp_path}/far", "{tmp_path}/far"), ("gs://bucket/runs", "scratch")],
)
def test_transfers_wait_in_the_scratch_folder_and_never_in_a_bucket(
    named: str, folder: str, serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = serve(tar_of(4 * MIB), drops=[3 * MIB, 0, 0, 0, 0, 0])
    monkeypatch.setenv("FACEREP_SCRATCH", named.format(tmp_path=tmp_path))
    refusal(web.url())
    waiting = Path(folder.format(tmp_path=tmp_path)) / "download"
    assert [path.name for path in waiting.rglob("*.part")] == ["faces.tar.part"]
    web.drops = []
    get(web.url())
    assert raw() == {"faces.tar": web.content}


def test_a_relative_mirror_counts_from_the_root_in_an_experiments_copy(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "a.tar").write_bytes(tar_of(10))
    copy = repository / ".dvc" / "tmp" / "exps" / "tmpabc"
    (copy / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("FACEREP_MIRROR", "../mirror")
    get("gs://bucket/a.tar")
    assert (copy / "data/raw/a.tar").read_bytes() == tar_of(10)
    assert (repository / "scratch" / "download").is_dir() and not (copy / "scratch").exists()


def test_a_mirror_that_is_no_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEREP_MIRROR", "../not-there")
    assert "FACEREP_MIRROR=../not-there: not a folder" in refusal("https://facerep.invalid/lfw.tgz")


@pytest.mark.parametrize("form", ["plain", "relative", "file://"])
def test_a_local_file_is_copied(form: str, tmp_path: Path) -> None:
    path = tmp_path / "my faces.tar"
    path.write_bytes(tar_of(20 * MIB))
    url = {"plain": str(path), "relative": "../my faces.tar", "file://": f"file://{path}"}[form]
    assert get(url)["archives"][0]["scheme"] == "file"
    assert raw() == {"my faces.tar": path.read_bytes()}


def test_a_local_path_that_is_not_there_is_looked_for_in_the_mirror(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no such file or folder" in refusal("some/lfw.tgz")
    (tmp_path / "lfw.tgz").write_bytes(tar_of(10))
    monkeypatch.setenv("FACEREP_MIRROR", str(tmp_path))
    get("some/lfw.tgz")
    assert raw() == {"lfw.tgz": tar_of(10)}


def test_a_local_folder_is_packed(tmp_path: Path) -> None:
    for name in ("train/n1/1.jpg", "test/n2/1.jpg"):
        (tmp_path / "friends" / name).parent.mkdir(parents=True)
        (tmp_path / "friends" / name).write_bytes(name.encode())
    first = get("../friends")
    assert first["archives"][0]["name"] == "friends.tar"
    with tarfile.open("data/raw/friends.tar") as tar:
        assert tar.getnames() == ["test/n2/1.jpg", "train/n1/1.jpg"]
    assert get(str(tmp_path / "friends")) == first


@pytest.mark.parametrize(
    ("name", "folder"), [("unlabelled.tar", "unlabelled"), ("unlabelled", "unlabelled"), ("a.b.tar", "a.b")]
)
def test_a_local_folder_is_packed_under_the_name_that_it_is_given(name: str, folder: str, tmp_path: Path) -> None:
    """So that photographs without labels come to lie below `unlabelled`, whatever their folder is called."""
    for file in ("IMG_1.jpg", "2019/IMG_1.jpg"):
        (tmp_path / "holiday" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "holiday" / file).write_bytes(file.encode())
    metrics = download(Download(archives=[Archive(url="../holiday", name=name)]), "data/raw")
    assert (metrics["files"], metrics["archives"][0]["name"], metrics["archives"][0]["scheme"]) == (1, name, "file")
    assert list(raw()) == [name]
    with tarfile.open(Path("data/raw") / name) as tar:
        assert tar.getnames() == [f"{folder}/2019/IMG_1.jpg", f"{folder}/IMG_1.jpg"]
        member = tar.extractfile(f"{folder}/2019/IMG_1.jpg")
        assert member is not None
        assert member.read() == b"2019/IMG_1.jpg"


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 1 MiB where the scratch folder will be."""
    folder = Path("scratch/download")
    folder.mkdir(parents=True)
    try:
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("no mount command")
    if made.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    path = folder.resolve()
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_full_disk_is_named_and_the_part_kept(serve: Any, small_disk: Path) -> None:
    web = serve(tar_of(3 * MIB))
    text = refusal(web.url())
    assert "the disk is full" in text and "faces.tar.part" in text
    kept = next(small_disk.rglob("*.part"))
    assert kept.read_bytes() == web.content[: kept.stat().st_size] and kept.stat().st_size > MIB // 2
    assert raw_is_empty()


def test_a_scratch_folder_on_another_disk(serve: Any, small_disk: Path) -> None:
    web = serve(tar_of(MIB // 2))
    get(web.url())
    assert raw() == {"faces.tar": web.content}
    assert scratch() == []


def test_the_synthetic_source(monkeypatch: pytest.MonkeyPatch) -> None:
    def write_archive(path: Path, *, train_identities: int, seed: int) -> None:
        path.write_bytes(tar_of(train_identities, seed))

    stand_in = types.ModuleType("facerep.synthetic.archive")
    vars(stand_in).update(write_archive=write_archive, parse_url=lambda url: {"train_identities": 3, "seed": len(url)})
    monkeypatch.setitem(sys.modules, "facerep.synthetic.archive", stand_in)
    monkeypatch.setattr("facerep.synthetic.archive", stand_in, raising=False)
    url = "synthetic://faces.tar?train_identities=3"
    assert get(url)["archives"][0]["scheme"] == "synthetic"
    assert raw() == {"faces.tar": tar_of(3, len(url))}
