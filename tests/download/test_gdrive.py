from pathlib import Path
from typing import Any

import pytest

from facerep.core.errors import FacerepError
from facerep.download import gdrive, transfer
from tests.support import loopback
from tests.support.loopback import MIB, get, raw, refusal, tar_of

serve, repository = loopback.serve, loopback.repository
pytestmark = pytest.mark.usefixtures("repository")


FOLDER = "1pzyStORojl4jei89uto6lXZEMTuzoKSQ"


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        (f"gdrive://{FOLDER}", (FOLDER, None)),
        (f"gdrive://{FOLDER}/", (FOLDER, None)),
        (f"gdrive://{FOLDER}/vggface2_train_prep.tar.gz", (FOLDER, "vggface2_train_prep.tar.gz")),
        (f"gdrive://{FOLDER}/sub folder/x.zip", (FOLDER, "sub folder/x.zip")),
    ],
)
def test_google_drive_urls(url: str, parsed: tuple[str, str | None]) -> None:
    assert gdrive.parse(url) == parsed


@pytest.mark.parametrize("url", ["gdrive://", "gdrive:///x.tar", "gdrive://short", f"gdrive://{FOLDER}?x"])
def test_google_drive_urls_of_another_form_are_refused(url: str) -> None:
    with pytest.raises(FacerepError, match="not a Google Drive URL"):
        gdrive.parse(url)


def test_a_file_of_a_drive_folder_is_chosen_by_name() -> None:
    files = [gdrive.DriveFile("1", "a.tar"), gdrive.DriveFile("2", "sub/a.tar"), gdrive.DriveFile("3", "sub/b.tar")]
    assert gdrive.choose("u", files, "a.tar").id == "1"
    assert gdrive.choose("u", files, "sub/a.tar").id == "2"
    assert gdrive.choose("u", files, "b.tar").id == "3"
    with pytest.raises(FacerepError, match=r"no file is called 'c.tar' .* there are: a.tar, sub/a.tar, sub/b.tar"):
        gdrive.choose("u", files, "c.tar")
    with pytest.raises(FacerepError, match=r"several files are called 'a.tar'"):
        gdrive.choose("u", [files[1], gdrive.DriveFile("4", "other/a.tar")], "a.tar")


def test_gdown_goes_on_where_a_transfer_broke(serve: Any, tmp_path: Path) -> None:
    web = serve(tar_of(8 * MIB), drops=[6 * MIB])
    gdrive.fetch_url(web.url(), tmp_path / "x.tar", lambda done, size: None)
    assert (tmp_path / "x.tar").read_bytes() == web.content
    assert web.asked[0] is None and web.asked[1] is not None and web.served < len(web.content) + 2 * MIB
    with pytest.raises(transfer.TransferError, match="404"):
        web.statuses = [404]
        gdrive.fetch_url(web.url(), tmp_path / "y.tar", lambda done, size: None)


def test_google_out_of_reach_is_one_sentence_and_the_mirror_helps(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = serve(b"", statuses=[502] * 9)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{web.port}")  # no way out of here
    monkeypatch.setenv("HOME", str(tmp_path))
    text = refusal(f"gdrive://{FOLDER}/vggface2_train_prep.tar.gz")
    assert f"gdrive://{FOLDER}" in text and "FACEREP_MIRROR" in text
    (tmp_path / "vggface2_train_prep.tar.gz").write_bytes(tar_of(10))
    monkeypatch.setenv("FACEREP_MIRROR", str(tmp_path))
    assert get(f"gdrive://{FOLDER}/vggface2_train_prep.tar.gz")["archives"][0]["scheme"] == "gdrive"
    assert raw() == {"vggface2_train_prep.tar.gz": tar_of(10)}
