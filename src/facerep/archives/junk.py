"""What tools leave in folders of photographs: passed over wherever it lies, and counted by kind."""

from collections.abc import Sequence
from typing import NamedTuple


class Kind(NamedTuple):
    """Files and folders of one origin. Every part of a path is compared, without regard to case."""

    kind: str
    names: tuple[str, ...]  # of files or folders
    prefixes: tuple[str, ...]
    source: str


KINDS = (
    Kind(
        "hidden files and folders",
        # .ipynb_checkpoints, .@__thumb (QNAP), ._1.jpg (AppleDouble), .DS_Store, .thumbnails, .Trash-1000, .git, …
        (),
        (".",),
        "https://github.com/bghira/SimpleTuner/issues/94 (Jupyter), https://github.com/photoprism/photoprism/issues/275",
    ),
    Kind(
        "thumbnails and recycle bins of a NAS",
        ("@eadir", "@__thumb", "@tmp", "#recycle", "@recycle", "#snapshot", "@recently-snapshot", "lost+found"),
        ("synophoto_thumb_", "synofile_thumb_"),
        "https://github.com/photoprism/photoprism/issues/1543 and 4921, https://github.com/immich-app/immich/pull/12566",
    ),
    Kind(
        "files of Windows",
        ("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "system volume information"),
        (),
        "https://github.com/github/gitignore/blob/main/Global/Windows.gitignore",
    ),
    Kind(
        "files of macOS",
        ("__macosx", "icon\r", "network trash folder", "temporary items"),
        (),
        "https://github.com/github/gitignore/blob/main/Global/macOS.gitignore",
    ),
    Kind("thumbnails of a camera", ("thmbnl",), (), "Sony's M4ROOT tree: a JPEG for each clip"),
    Kind("files of Python", ("__pycache__",), (), "https://docs.python.org/3/library/importlib.html"),
)


def junk_kind(parts: Sequence[str]) -> str | None:
    """Which kind of leftover a file or folder is, by the parts of its path; None for what somebody put there."""
    for part in parts:
        name = part.casefold()
        for kind in KINDS:
            if name in kind.names or (kind.prefixes and name.startswith(kind.prefixes)):
                return kind.kind
    return None
