"""`python -m facerep.study STUDY.yaml`: run what is wanting of a study, and write its results."""

import argparse
import sys
from pathlib import Path

from facerep.core.errors import FacerepError
from facerep.study.config import load_study
from facerep.study.readme import insert
from facerep.study.report import report
from facerep.study.runs.bench import Bench, Share


def main() -> None:
    """Read the command line, and do what it asks."""
    parser = argparse.ArgumentParser(prog="python -m facerep.study", description=__doc__)
    parser.add_argument("study", type=Path, help="a study's YAML file, such as studies/demo.yaml")
    parser.add_argument("--jobs", type=_jobs, default=1, help="runs at a time (default: 1)")
    parser.add_argument("--seeds", type=_seeds, help="run these seeds alone, as 0,1,2: another machine runs the others")
    parser.add_argument("--variants", type=lambda text: text.split(","), help="run these variants alone, as a,b")
    parser.add_argument(
        "--plan", action="store_true", help="print the dvc lines of the runs that are wanting; run nothing"
    )
    parser.add_argument("--report", action="store_true", help="run nothing; write the results of what is there")
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="the folder above <study>/ (default: results)"
    )
    parser.add_argument("--drop", action="store_true", help="drop results that the study no longer plans")
    parser.add_argument("--readme", type=Path, help="a Markdown file to put the results into, between two comments")
    arguments = parser.parse_args()
    study = load_study(arguments.study)
    bench = Bench(study, arguments.results / study.name)
    share = Share(arguments.seeds, arguments.variants)
    for option, asked, known in (("seeds", share.seeds, study.seeds), ("variants", share.variants, study.variants)):
        if unknown := [value for value in asked or [] if value not in known]:
            raise FacerepError(f"--{option} {unknown[0]}: none of {', '.join(map(str, known))}.")
    if arguments.plan:
        choice = bench.choice()
        for run in choice.wanting or bench.wanting(bench.runs(choice.tuned)):
            if share.has(run):
                print(run.line)
        return
    if not arguments.report:
        bench.work(arguments.jobs, share)
    print(report(bench, arguments.study, arguments.drop))
    if arguments.readme:
        insert(arguments.readme, bench.results)
    print(f"See {bench.results / 'index.html'}")


def _seeds(text: str) -> list[int]:
    return [int(seed) for seed in text.split(",")]


def _jobs(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: at least one run at a time")
    return int(text)


if __name__ == "__main__":
    try:
        main()
    except FacerepError as error:
        sys.exit(f"study: {error}")
    except KeyboardInterrupt:
        sys.exit(
            "study: what is queued goes on in the background (`dvc queue stop --kill` ends it); the same command watches on."
        )
