"""Which bucket is this repository's remote: written into DVC's configuration, which names none of its own."""

from pathlib import Path
from urllib.parse import urlsplit

from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.repo import Repo

from facerep.core.errors import FacerepError

NAME = "storage"


def use(url: str, local: bool = False) -> Path:
    """Make `url` the default remote, in .dvc/config or, where `local`, in .dvc/config.local; the file that was written.

    What else the file says of the remote stays where the kind of URL does. Raises FacerepError for a URL that DVC takes
    for no remote or only pulls from, and for a folder that is not there.
    """
    scheme, place = _scheme_and_place(url)
    level = "local" if local else "repo"
    try:
        with Repo() as repo:
            with repo.config.edit(level) as config:
                before = config["remote"].get(NAME, {})
                kept = before if urlsplit(str(before.get("url", ""))).scheme == scheme else {}
                # DVC then recomputes the checksum of everything that it pulls
                config["remote"][NAME] = {**kept, "url": place, "verify": True}
                config["core"]["remote"] = NAME
            return Path(repo.config.files[level])
    except NotDvcRepoError as error:
        raise FacerepError(f"{error}.") from None
    except DvcException as error:
        why = str(error).removeprefix("config file error: ").partition(" for dictionary value")[0]
        raise FacerepError(f"{url}: {' '.join(why.split())}.") from None


def _scheme_and_place(url: str) -> tuple[str, str]:
    if not url.strip():
        raise FacerepError(f"{url!r}: names nothing; give a bucket as gs://my-bucket/facerep, or a folder's path.")
    if "://" in url:
        if any(letter.isspace() for letter in url):
            raise FacerepError(f"{url!r}: has a space in it; give the bucket without, as gs://my-bucket/facerep.")
        scheme, _, rest = url.partition("://")
        url = f"{scheme.lower()}://{rest}"
        parts = urlsplit(url)
        if not parts.netloc:
            raise FacerepError(f"{url}: names no bucket; give one as gs://my-bucket/facerep, or a folder's path.")
        if parts.scheme in ("http", "https"):
            raise FacerepError(
                f"{url}: a web address, from which DVC only pulls; a bucket is written gs://my-bucket/facerep."
            )
        return parts.scheme, url.rstrip("/")
    folder = Path(url).expanduser().resolve()
    if not folder.is_dir():
        raise FacerepError(f"{url}: no such folder; make it first, or give a bucket as gs://my-bucket/facerep.")
    return "", str(folder)  # absolute, since experiments run in other folders
