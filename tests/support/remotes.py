"""What the tests of the remote share: a repository that is made and pushed once, copied for each test, and our command."""

import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from tests.support.faulty_bucket import Bucket, faulty_bucket
from tests.support.paths import ROOT
from tests.support.repository import contents, environment, sh

WITHIN = 45  # seconds: half a minute on a quiet machine
GCSFS = {"GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
SIZE = 300_000  # bytes of a file


class Place(NamedTuple):
    """A repository and the folder of the bucket that its remote means."""

    repo: Path
    bucket: Path

    def copied(self, folder: Path) -> "Place":
        """Both, for a test that changes them."""
        return Place(copied(self.repo, folder / "repo"), copied(self.bucket, folder / "bucket"))


def copied(source: Path, target: Path) -> Path:
    """With times and extended attributes: in these the server keeps what it says of an object."""
    shutil.copytree(source, target, symlinks=True)
    return target


def repository(repo: Path, files: int) -> Path:
    """A repository with our configuration, a folder of random files and a single one, that nobody has pushed yet."""
    repo.mkdir()
    sh("git", "init", "-q", "-b", "main", cwd=repo)
    sh("dvc", "init", "-q", cwd=repo)
    shutil.copy(ROOT / ".dvc" / "config", repo / ".dvc" / "config")
    (repo / "data").mkdir()
    for number in range(files):
        (repo / "data" / f"{number:02d}").write_bytes(os.urandom(SIZE))
    (repo / "single").write_bytes(os.urandom(SIZE))
    sh("dvc", "add", "-q", "data", "single", cwd=repo)
    commit(repo)
    return repo


def commit(repo: Path) -> None:
    sh("git", "add", ".", cwd=repo)
    sh("git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "data", cwd=repo)


def pushed(repo: Path, folder: Path) -> Place:
    """The repository, pushed into the folder of a bucket."""
    folder.mkdir()
    with faulty_bucket(folder) as bucket:
        point_at(repo, bucket)
        sh("dvc", "push", "-q", cwd=repo, env=GCSFS)
    return Place(repo, folder)


def point_at(repo: Path, bucket: Bucket, anonymous: bool = True, **more: str) -> None:
    """As `facerep remote use --local` and `dvc remote modify --local storage` write it, in none of their seconds."""
    lines = ["[core]", "remote = storage", "['remote \"storage\"']", "url = gs://facerep/dvc", "verify = true"]
    lines.append(f"endpointurl = {bucket.address}")
    lines += ["allow_anonymous_login = true"] * anonymous + [f"{key} = {value}" for key, value in more.items()]
    (repo / ".dvc" / "config.local").write_text("\n".join(lines) + "\n")


def cloned(repo: Path, folder: Path, bucket: Bucket) -> Path:
    sh("git", "clone", "-q", str(repo), str(folder), cwd=repo)
    point_at(folder, bucket)
    return folder


def remote(repo: Path, *command: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """`facerep remote …`: its exit code and what it said; it may not take longer than WITHIN when it fails."""
    of_google = ("GCSFS", "GOOGLE", "GCE")
    given = {name: value for name, value in environment().items() if not name.startswith(of_google)}
    start = time.monotonic()
    done = subprocess.run(
        ["facerep", "remote", *command],
        cwd=repo,
        env=given | (env or {}),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=200,
    )
    if done.returncode:
        assert time.monotonic() - start < WITHIN
    assert "Traceback" not in done.stdout
    return done.returncode, done.stdout.strip()


def object_of(file: Path) -> str:
    """The name in the bucket of a file's object, as DVC gives it."""
    digest = hashlib.md5(file.read_bytes()).hexdigest()
    return f"dvc/files/md5/{digest[:2]}/{digest[2:]}"


def assert_sentence(answer: tuple[int, str], *words: str) -> None:
    """It failed, and the last line is a sentence with these words."""
    code, said = answer
    assert code == 1
    last = said.splitlines()[-1]
    assert last.startswith(("push: ", "pull: ", "fetch: ", "check: ")) and last.endswith("."), said
    assert all(word in last for word in words), said


def assert_all_there(repo: Path, bucket: Bucket, clone: Path) -> None:
    """The same command finishes the work, and a fresh clone gets every byte."""
    assert remote(repo, "push")[0] == 0
    assert "in sync" in sh("dvc", "status", "-c", cwd=repo, env=GCSFS)
    assert_same(repo, pulled(cloned(repo, clone, bucket)))


def pulled(repo: Path) -> Path:
    code, said = remote(repo, "pull")
    assert code == 0, said
    return repo


def assert_same(repo: Path, other: Path) -> None:
    assert contents(other / "data") == contents(repo / "data")
    assert (other / "single").read_bytes() == (repo / "single").read_bytes()


def assert_right(clone: Path, repo: Path) -> None:
    """What has come, to the workspace or to the cache, is what was sent."""
    good = contents(repo / "data") | {"single": (repo / "single").read_bytes()}
    for name, data in good.items():
        assert not (clone / name).is_file() or (clone / name).read_bytes() == data
    whole = contents(repo / ".dvc" / "cache" / "files")
    for name, data in contents(clone / ".dvc" / "cache" / "files").items():
        assert name not in whole or data == whole[name]
