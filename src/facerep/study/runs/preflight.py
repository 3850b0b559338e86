"""What would fail every run of a study, looked for before anything is queued: the clone, the archives, the budgets."""

import json
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from urllib.parse import unquote, urlsplit

from facerep.archives.folder import list_folder
from facerep.archives.members import PLAIN
from facerep.archives.reader import read_members
from facerep.core.errors import FacerepError
from facerep.core.files import repository_root
from facerep.crop.folders import Folders
from facerep.crop.names import boxes_split, place_in
from facerep.download.stage import Source, folder_name, source_of
from facerep.faces.shards import UNLABELLED
from facerep.params import Params, Select
from facerep.select.classes import held_out, refuse_one_folder
from facerep.select.excluded import read_excluded

MOST_BYTES = 2 * 2**30  # an archive above that takes minutes to read the names of
LEAST = 3  # what select.min_labelled may be at the lowest
PASSED_OVER = 3  # kinds of files that a sentence names
INSTEAD = "(`dvc repro` and `dvc exp run` work here all the same)"


def refuse_clone(root: Path | None = None) -> None:
    """Raises FacerepError for a clone whose experiments DVC's queue would run and then lose."""
    root = root or repository_root()
    if _git(root, "rev-parse", "--is-shallow-repository").strip() == "true":
        raise FacerepError(
            "this clone is shallow (`git clone --depth`), and DVC's queue cannot bring a run's results into it; "
            f"run `git fetch --unshallow` first {INSTEAD}."
        )
    if _git(root, "config", "--get-regexp", r"^remote\..*\.promisor$") and "\n?" in "\n" + _git(
        root, "rev-list", "--objects", "--missing=print", "HEAD"
    ):
        raise FacerepError(
            "this clone lacks files of older commits (`git clone --filter`), and DVC's queue needs them all; clone it again "
            f"without --filter {INSTEAD}."
        )
    if odd := next((c for c in str(root) if c in "{}"), None):
        raise FacerepError(
            f"{root}: DVC cannot run below a path with {odd!r} in it; move this clone to another folder."
        )
    # DVC gives git the path as a URL, and writes it into a file that takes ASCII alone
    path = str(root)
    if odd := next((c for c in path if not c.isascii()), None):
        raise FacerepError(
            f"{path}: DVC's queue cannot run below a path with {odd!r} in it, a letter that is not ASCII; move this clone "
            f"to another folder {INSTEAD}."
        )
    if unquote(urlsplit(f"file://{path}").path) != path:
        odd = next((c for c in "#?\t\n\r" if c in path), "%")
        raise FacerepError(
            f"{path}: DVC's queue cannot run below a path with {odd!r} in it; move this clone to another folder {INSTEAD}."
        )


def refuse_uncommitted(lists: Iterable[str], root: Path | None = None) -> None:
    """Raises FacerepError for a list of photographs to exclude that DVC's queue would not find, or not as it lies here."""
    root = root or repository_root()
    for path in sorted(lists):
        read_excluded(root / path)
        if not _git(root, "ls-files", "--", path) or _git(root, "status", "--porcelain", "--", path):
            raise FacerepError(
                f"select.exclude = {path!r}: not as in the last commit, from which DVC's queue takes it; commit it first."
            )


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False).stdout


def look_at_data(runs: Iterable[Params], proven: Iterable[Params] = ()) -> None:
    """Look at the archives that the runs name, and whether their classes are large enough for the label budgets.

    Only names are read, of local folders and archives; copies and damaged photographs, which `select` and `crop` leave
    out, are not known yet. The archives of `proven` runs have been read by DVC already and may be gone.

    Raises FacerepError for a path that is not there or stands there twice, a file that is no archive, fewer than two
    classes that are large enough, and a label budget above what the smallest of them leaves to learn from, where a class
    may not have fewer (finetune.fewer_labels).
    """
    there = {_archives(params) for params in proven}
    kinds: dict[tuple[str, str], list[Params]] = {}
    for params in runs:
        kinds.setdefault((_archives(params), params.select.model_dump_json()), []).append(params)
    counted: dict[str, Folders | None] = {}
    for (archives, _), alike in kinds.items():
        if archives not in counted:
            try:
                counted[archives] = folders_of(alike[0])
            except FacerepError:
                if archives not in there:
                    raise
                counted[archives] = None
        if (found := counted[archives]) is not None:
            budgets = [p.finetune.labels_per_identity or 0 for p in alike if not p.finetune.fewer_labels]
            _judge(found, alike[0].select, max(budgets, default=0))


def _archives(params: Params) -> str:
    return json.dumps([archive.model_dump() for archive in params.download.archives])


def folders_of(params: Params) -> Folders | None:
    """What lies in each folder; None where not all of it lies on this machine, or where it is too large."""
    root = repository_root()
    sources = [source_of(archive, root) for archive in params.download.archives]
    _refuse_twice(sources)
    if any(
        source.path is None or (source.path.is_file() and source.path.stat().st_size > MOST_BYTES) for source in sources
    ):
        return None
    folders = Folders()
    for source in sources:
        for name in _names(source):
            place = place_in(source.name, name)
            if place is not None:
                folders.add(place, name)
            elif boxes_split(name) is None:
                folders.pass_over(name)
    return folders


def _refuse_twice(sources: list[Source]) -> None:
    seen: dict[Path, Source] = {}
    for source in sources:
        if source.scheme != "file" or source.path is None:
            continue
        first = seen.setdefault(source.path.resolve(), source)
        if first is not source:
            raise FacerepError(
                f"download.archives: {first.url} and {source.url} are the same, {source.path}; of copies the one with a "
                "label is kept, so that nothing would be left to pretrain on; correct one of them, or take it out."
            )


def _names(source: Source) -> Iterator[str]:
    """The names that `crop` will see: those in an archive, or what `download` makes of a folder."""
    assert source.path is not None
    if source.path.is_file():
        yield from _members(source.path)
    else:
        yield from (name for name, _ in list_folder(source.path, folder_name(source)).members)


def _members(path: Path) -> list[str]:
    """The names in an archive, of which no member is read; of a list or boxes beside the archives none."""
    names: list[str] = []

    def wanted(name: str) -> bool:
        names.append(name)
        return False

    if path.suffix.lower() not in PLAIN:
        list(read_members(path, wanted, refused=lambda name, why: None))
    return names


def _judge(folders: Folders, select: Select, budget: int) -> None:
    found = folders.found
    if select.roles == "by_folder" and not any(split == UNLABELLED for split, _ in found):
        raise FacerepError(
            "download.archives: there is nothing to pretrain on, since no photograph lies in a folder or archive called "
            f"unlabelled{_passed_over(folders)}; put name: unlabelled.tar beside the url of those without labels."
        )
    rows = [{"split": split, "identity": identity, "found": n} for (split, identity), n in found.items()]
    refuse_one_folder(rows, select)
    sizes: Counter[str] = Counter()
    for (split, identity), photographs in found.items():
        if split == "test" if select.roles == "by_split" else split != UNLABELLED:
            sizes[identity] += photographs
    labelled = {identity: n for identity, n in sizes.items() if n >= select.min_labelled}
    if len(labelled) < 2:
        largest = ", ".join(f"{identity} {n}" for identity, n in sizes.most_common(5)) or "none at all"
        lower = "lower it, or " if sum(n >= LEAST for n in sizes.values()) > 1 else ""
        note = next(folders.notes(), "")
        raise FacerepError(
            f"select.min_labelled = {select.min_labelled}: two classes with so many photographs are needed, and there "
            f"{'is one' if labelled else 'are none'} (photographs in the largest: {largest}{_passed_over(folders)}); "
            f"{lower}correct download.archives.{' ' * bool(note)}{note}"
        )
    smallest, n = min(labelled.items(), key=lambda item: (item[1], item[0]))
    most = left_to_learn(n, select)
    if budget > most:
        wanted = next(size for size in count(n) if size > select.per_identity or left_to_learn(size, select) >= budget)
        raiser = ""
        if wanted > select.per_identity:
            raiser = ", or raise select.per_identity"
        elif sum(size >= wanted for size in labelled.values()) > 1:  # else no task would be left
            raiser = f", or raise select.min_labelled to {wanted}"
        raise FacerepError(
            f"budgets: {budget} labels of each class are more than {smallest} has to learn from, the smallest class: "
            f"{max(most, 0)} of its {n} photographs, after those for test and val; make no budget larger than "
            f"{max(most, 0)}{raiser}."
        )


def _passed_over(folders: Folders) -> str:
    """The largest groups of files that are no photographs, as a part of a sentence; nothing where there are none."""
    rows = folders.passed_over()
    told = [
        f"{row['files']} {'in' if row['kind'].startswith('.') else 'with'} {row['kind']} in {row['folder']}"
        for row in rows[:PASSED_OVER]
    ]
    more = ", …" * (len(rows) > PASSED_OVER)
    return f"; passed over: {', '.join(told)}{more}" if told else ""


def left_to_learn(photographs: int, select: Select) -> int:
    """How many of a class's photographs `select` leaves to learn from, if none is a copy."""
    n = min(photographs, select.per_identity)
    return n - sum(held_out(n, select))
