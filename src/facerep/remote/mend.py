"""What a bucket holds wrongly, or lacks: found by asking for names and checksums alone, and put right from this cache.

    python -m facerep.remote.mend [-r REMOTE] [--run-cache]

DVC takes an object for pushed when there is one of its name, and all files of a folder when the folder's list is there
(`<md5>.dir`): what was cut short, changed or deleted in the bucket afterwards, no `dvc push` brings back. And of the runs
that `dvc push --run-cache` uploads it leaves out what they made, but for what the workspace holds at the moment in DVC's
cache: where a metric is missing, all runs again.
"""

import argparse
import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from dvc.exceptions import DvcException
from dvc.repo import Repo
from ruamel.yaml import YAML

from facerep.core.buckets import open_remote, quiet_gcsfs
from facerep.core.errors import FacerepError


class Remote(NamedTuple):
    """A remote as DVC's configuration has it, and the cache of this repository."""

    url: str
    settings: dict[str, Any]
    cache: Path

    @property
    def in_google_cloud(self) -> bool:
        """Whether we know how to ask it."""
        return self.url.startswith("gs://")

    @property
    def folder(self) -> str:
        """Of its objects and runs, in the form that its file system wants."""
        return self.url.removeprefix("gs://").rstrip("/")

    def kept(self, name: str) -> Path:
        """Where this cache keeps, or would keep, an object."""
        return self.cache / name[:2] / name[2:]

    def place(self, name: str) -> str:
        """Where the bucket does."""
        return f"{self.folder}/files/md5/{name[:2]}/{name[2:]}"


def find_remote(name: str | None) -> Remote:
    """The remote of that name, or else the default one. Raises FacerepError when there is none."""
    try:
        with Repo() as repo:
            name = name or repo.config["core"].get("remote")
            if name is None:
                raise FacerepError(
                    "this repository has no remote yet; name yours with `facerep remote use gs://<bucket>/<prefix>`."
                )
            if name not in repo.config["remote"]:
                known = ", ".join(sorted(repo.config["remote"])) or "none"
                raise FacerepError(f"remote {name!r} is not configured (there are: {known}); see `dvc remote list`.")
            settings = dict(repo.config["remote"][name])
            return Remote(str(settings["url"]), settings, Path(repo.cache.local.path))
    except DvcException as error:
        raise FacerepError(f"{error}.") from None


def look(remote: Remote, runs: bool = False) -> list[str]:
    """The names of objects that are not what they are named after, and of those that are named in the bucket in vain.

    They are named by the lists of folders and, where `runs`, by the runs of the run cache (whose outputs may have been
    deleted on purpose); of both by those alone that this cache has, too.
    """
    fs = open_remote(remote.settings)
    start = len(f"{remote.folder}/files/md5/")
    objects = {p[start:].replace("/", ""): about for p, about in fs.find(remote.place(""), detail=True).items()}
    wrong = {name for name, about in objects.items() if _differs(name, about, remote.kept(name))}
    named = {name for name in objects if name.endswith(".dir")}
    for run in fs.find(f"{remote.folder}/runs") if runs else ():
        named |= _made(remote.cache.parents[1] / run.removeprefix(f"{remote.folder}/"))
    for folder in [name for name in named if name.endswith(".dir") and remote.kept(name).is_file()]:
        named |= {entry["md5"] for entry in json.loads(remote.kept(folder).read_text())}
    return sorted(wrong | (named - objects.keys()))


def _differs(name: str, about: dict[str, Any], kept: Path) -> bool:
    """From its name; where the bucket knows no md5, as of what was put together from parts, from our own in size."""
    digest = about.get("md5Hash")
    if digest and base64.b64decode(digest).hex() != name.removesuffix(".dir"):
        return True
    return kept.is_file() and kept.stat().st_size != int(about["size"])


def _made(run: Path) -> set[str]:
    """The objects that a run of the run cache has made."""
    if not run.is_file():
        return set()
    return {out["md5"] for out in YAML(typ="safe").load(run).get("outs", []) if "md5" in out}


def mend(remote: Remote, runs: bool = False) -> tuple[list[str], list[str]]:
    """Upload anew what the bucket holds wrongly or lacks: the names that now are right, and those this cache has not."""
    wrong = look(remote, runs)
    here = [name for name in wrong if _is_whole(remote.kept(name), name)]
    if here:
        fs = open_remote(remote.settings)
        fs.put([str(remote.kept(name)) for name in here], [remote.place(name) for name in here])
    return here, [name for name in wrong if name not in here]


def _is_whole(kept: Path, name: str) -> bool:
    if not kept.is_file():
        return False
    with kept.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest() == name.removesuffix(".dir")


def main() -> None:
    """Mend, and say what was done; exit code 1 and a sentence where it cannot be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--remote", "-r", help="another than the default")
    parser.add_argument("--run-cache", action="store_true", help="what the runs in the bucket have made, too")
    options = parser.parse_args()
    quiet_gcsfs()
    try:
        mended, left = mend(find_remote(options.remote), options.run_cache)
    except FacerepError as error:
        sys.exit(f"ERROR: {error}")
    except Exception as error:
        sys.exit(f"ERROR: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
    if mended:
        print(f"Uploaded what the bucket held wrongly or lacked: {shown(mended)}.")
    if left:
        print(f"Wrong in the bucket, or missing, and not in this repository's cache either: {shown(left)}.")


def shown(names: list[str]) -> str:
    """Some of the names, in words."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} object{'s' * (len(names) > 1)} ({', '.join(names[:3])}{more})"


if __name__ == "__main__":
    main()
