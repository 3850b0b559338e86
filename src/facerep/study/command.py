"""What `facerep study` and `facerep report` do."""

from collections.abc import Sequence
from pathlib import Path

from facerep.core.errors import FacerepError
from facerep.study.config import load_study
from facerep.study.readme import insert
from facerep.study.report import report
from facerep.study.runs.bench import Bench, Share


def run_study(
    file: Path,
    jobs: int,
    seeds: list[int] | None,
    variants: list[str] | None,
    plan: bool,
    results: Path,
    drop: bool,
) -> None:
    """Run what is missing of a study, or of its share of these seeds and variants, and write its results.

    With `plan` only the dvc lines of the missing runs are printed. Raises FacerepError for an unknown seed or variant, and
    for what Bench.work and report refuse.
    """
    study = load_study(file)
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
        return
    try:
        bench.work(jobs, share)
    except KeyboardInterrupt:
        raise FacerepError(
            "what is queued goes on in the background (`dvc queue stop --kill` ends it); the same command watches on."
        ) from None
    _write(bench, file, drop)


def report_study(file: Path, results: Path, drop: bool, markdown: Sequence[Path] = ()) -> None:
    """Write a study's results of the runs that are there, into `markdown` files too, and print its verdict."""
    study = load_study(file)
    _write(Bench(study, results / study.name), file, drop, markdown)


def _write(bench: Bench, file: Path, drop: bool, markdown: Sequence[Path] = ()) -> None:
    print(report(bench, file, drop))
    for each in markdown:
        insert(each, bench.results)
    print(f"See {bench.results / 'index.html'}")
