"""What `facerep study` and `facerep report` do."""

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from facerep.core.cores import cores
from facerep.core.errors import FacerepError
from facerep.study.apply import apply
from facerep.study.config import Study, load_study
from facerep.study.look import show
from facerep.study.readme import insert
from facerep.study.report import report
from facerep.study.runs.bench import Bench, Share
from facerep.study.runs.hub import with_what_can_be_had


def run_study(
    file: Path,
    jobs: int | None,
    seeds: list[int] | None,
    variants: list[str] | None,
    plan: bool,
    results: Path,
    drop: bool,
    first_look: bool = False,
) -> None:
    """Run what is missing of a study, or of its share of these seeds and variants, and write its results.

    With `plan` only the dvc lines of the missing runs are printed; with `first_look` only the baseline's runs of one seed
    are made, and what they say is printed, too. `jobs` None: one at a time, in a first look two where there are two cores.
    How long the whole study takes is said first, and which variants see too little to judge pretraining by.

    Raises FacerepError for an unknown seed or variant, and for what Bench.work and report refuse.
    """
    if first_look and (seeds is not None or variants is not None or plan):
        raise FacerepError("--first-look: chooses its runs itself; leave out --seeds, --variants and --plan.")
    study = _load(file, results)
    bench = Bench(study, results / study.name)
    for option, asked, known in (("seeds", seeds, study.seeds), ("variants", variants, study.variants)):
        if unknown := [value for value in asked or [] if value not in known]:
            raise FacerepError(f"--{option} {unknown[0]}: none of {', '.join(map(str, known))}.")
    share = Share(seeds, variants)
    if plan:
        choice = bench.choice()
        for run in choice.missing or bench.missing(bench.runs(choice.tuned)):
            if share.has(run):
                print(run.line)
        if expected := bench.expected(jobs or 1):
            for sentence in (expected, *bench.too_few_views()):
                print(f"{study.name}: {sentence}", file=sys.stderr)
        return
    try:
        with _as_ctrl_c(signal.SIGTERM):
            if first_look:
                share = bench.first_look(jobs or min(2, cores()))
            else:
                bench.work(jobs or 1, share)
    except KeyboardInterrupt:
        raise FacerepError(
            "what is queued goes on in the background (`dvc queue stop --kill` ends it); the same command watches on."
        ) from None
    _write(bench, file, drop)
    if first_look:
        show(bench, share, file)


@contextmanager
def _as_ctrl_c(number: signal.Signals) -> Iterator[None]:
    """The signal interrupts as Ctrl-C does; a second one ends at once. Only a main thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(number)

    def interrupt(*_: object) -> None:
        signal.signal(number, before)
        raise KeyboardInterrupt

    signal.signal(number, interrupt)
    try:
        yield
    finally:
        signal.signal(number, before)


def apply_study(file: Path, variant: str, results: Path) -> None:
    """Bring the model of the variant's best seed into models/, and say so."""
    study = _load(file, results)
    print(apply(Bench(study, results / study.name), variant, file))


def report_study(file: Path, results: Path, drop: bool, markdown: Sequence[Path] = ()) -> None:
    """Write a study's results of the runs that are there, into `markdown` files too, and print its verdict."""
    study = _load(file, results)
    _write(Bench(study, results / study.name), file, drop, markdown)


def _load(file: Path, results: Path) -> Study:
    """The study, without what cannot be had here, which is said."""
    study = load_study(file)
    study, told = with_what_can_be_had(study, results / study.name)
    for sentence in told:
        print(sentence, file=sys.stderr)
    return study


def _write(bench: Bench, file: Path, drop: bool, markdown: Sequence[Path] = ()) -> None:
    print(report(bench, file, drop))
    for each in markdown:
        insert(each, bench.results)
    print(f"See {bench.results / 'index.html'}")
