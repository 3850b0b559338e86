"""Carry a study's experiments home, and bring back what earlier machines have carried there: run by cloud/run.sh.

    python cloud/home.py bring studies/lfw.yaml
    python cloud/home.py send studies/lfw.yaml

Home is two places: the git remote `origin` has the experiments' commits, the DVC remote the bytes that they name. Most of
what is said to DVC here is said to a second clone of the repository, scratch/home: the study itself has the first.
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from contextlib import chdir, suppress
from pathlib import Path
from typing import Any

import fsspec
from dvc.cli import main as dvc_main
from dvc.exceptions import DvcException
from dvc.repo import Repo

from facerep.core.errors import FacerepError
from facerep.core.files import atomic
from facerep.params import parse_yaml
from facerep.resume.scratch import scratch_url
from facerep.study.config import Study, load_study
from facerep.study.runs.bench import Bench

HOME = Path("scratch/home")
DATA = ["download", "crop", "select"]  # the stages that all runs of a study share


def main() -> None:
    """Run the command line; a FacerepError becomes its sentence and exit code 1."""
    command, path = sys.argv[1:]
    try:
        {"bring": bring, "send": send}[command](load_study(path))
    except FacerepError as error:
        sys.exit(f"home: {error}")
    except DvcException as error:
        sys.exit(f"home: {error}; run the same command again, what has been transferred is kept.")


def bring(study: Study) -> None:
    """What earlier machines made: every experiment's commit, and of this code's the bytes that other runs go on from.

    Then the stages that all runs share are run, unless they were.
    """
    journal = bench(study).journal
    with suppress(FileNotFoundError), fsspec.open(kept(journal)) as far, atomic(journal) as part:
        part.write_bytes(far.read())
    there = git("ls-remote", "origin", "refs/exps/*")
    for clone in (Path(), HOME):
        with chdir(clone):
            if there:
                dvc("exp", "pull", "--quiet", "--no-cache", "--all-commits", "origin")
    with chdir(HOME):
        fetch(study)
    share(study)


def fetch(study: Study) -> None:
    """Data and pretrained models of the experiments that are here, and DVC's notes of which stage made them of what."""
    data = [data_name(study, stage) for stage in DATA]
    mine = [commit for name, commit in experiments().items() if name in (*data, *runs(study))]
    if not mine:
        return
    say(f"{len(mine)} experiments are there; fetching their data and pretrained models.")
    with Repo() as repo:
        repo.stage_cache.pull(None)
        for objects in repo.stage_cache.get_used_objs(notes(repo, mine, [*DATA, "pretrain", "probe"])).values():
            if repo.cloud.pull(objects).failed:
                say("the bucket lacks some of them; what is missing is made again.")


def share(study: Study) -> None:
    """Run the shared stages, each as an experiment of its own that goes home at once: DVC then has them for every run."""
    with chdir(HOME):
        choice = bench(study).choice()
        runs = choice.missing or bench(study).missing(bench(study).runs(choice.tuned))
        stages = [stage for stage in DATA if data_name(study, stage) not in experiments()]
    if not runs:
        return
    for stage in stages:
        with chdir(HOME):
            settings = runs[0].arguments[2:]  # without its name
            dvc("exp", "run", "--temp", "--pull", "--name", data_name(study, stage), *settings, stage)
        send(study)


def send(study: Study) -> None:
    """What is new: first the bytes, then the commits that name them."""
    here = Path.cwd()
    journal = bench(study).journal
    if journal.is_file():
        with fsspec.open(kept(journal), "wb") as far:
            far.write(journal.read_bytes())
    with chdir(HOME):
        refs = f"{experiment_refs()}*"
        git("fetch", "--quiet", str(here), f"+{refs}:{refs}")
        known = {line.split()[1].rpartition("/")[2] for line in git("ls-remote", "origin", refs).splitlines()}
        new = {name: commit for name, commit in experiments().items() if name not in known}
        if not new:
            return
        with Repo() as repo:
            if made := [new[name] for name in runs(study) if name in new]:
                repo.push(revs=made, workspace=False)
            for number, stage in enumerate(DATA, 1):  # what else its dvc.lock has is of the commit that it grew from
                if commit := new.get(data_name(study, stage)):
                    repo.push(targets=DATA[:number], revs=[commit], workspace=False)
            # metrics, too, which git has: DVC takes a stage from its notes where it finds all that the stage wrote
            for objects in repo.stage_cache.get_used_objs(notes(repo, new.values(), None)).values():
                if repo.cloud.push(objects).failed:  # said, not raised
                    raise FacerepError("the bucket did not take all; run the same command again, what it took is kept.")
            repo.stage_cache.push(None)
        dvc("exp", "push", "--quiet", "--no-cache", "--rev", "HEAD", "origin")
    say(f"{', '.join(new)}: at home.")


def notes(repo: Repo, commits: Iterable[str], stages: list[str] | None) -> list[tuple[str, str]]:
    """What DVC has noted (its run cache) of these stages of the experiments (None: of all), as it names its notes."""
    made = set()
    for commit in commits:
        lock = parse_yaml(git("show", f"{commit}:dvc.lock"))["stages"]
        made |= {outcome(stage) for name, stage in lock.items() if stages is None or name in stages}
    files = [path for path in Path(repo.stage_cache.cache_dir).glob("*/*/*") if len(path.name) == 64]  # whole ones
    return [(path.parent.name, path.name) for path in files if outcome(parse_yaml(path.read_text())) in made]


def outcome(stage: dict[str, Any]) -> str:
    """A stage's command and what it wrote, from a lock or from a note."""
    return json.dumps([stage["cmd"], sorted((out["path"], out["md5"]) for out in stage.get("outs", []))])


def bench(study: Study) -> Bench:
    """The study in the clone of the current folder."""
    return Bench(study, Path("results") / study.name)


def data_name(study: Study, stage: str) -> str:
    """The experiment that has run the shared stages so far; no run of any study can be called like this."""
    return f"{study.name}_{stage}"


def runs(study: Study) -> list[str]:
    """The study's experiments that are here, of this code."""
    return [name for name in experiments() if name.startswith(f"{study.name}-")]


def experiments() -> dict[str, str]:
    """The commits of the experiments that are here, of this code, by name."""
    lines = git("for-each-ref", "--format=%(refname:lstrip=4) %(objectname)", experiment_refs())
    return dict(line.split() for line in lines.splitlines())


def experiment_refs() -> str:
    """Where DVC keeps this code's experiments in git."""
    head = git("rev-parse", "HEAD").strip()
    return f"refs/exps/{head[:2]}/{head[2:]}/"


def kept(journal: Path) -> str:
    """Where in the bucket the study's note of how long its runs took lies."""
    return f"{scratch_url()}{journal.name}"


def dvc(*arguments: str) -> None:
    """Run a command of DVC's. Raises FacerepError when it fails; DVC says why."""
    if dvc_main(list(arguments)):
        raise FacerepError(f"`dvc {' '.join(arguments)}` failed, as DVC says above.")


def git(*arguments: str) -> str:
    """Run git; its output. Raises FacerepError when it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise FacerepError(f"`git {' '.join(arguments)}` failed: {' '.join(done.stderr.split())}.")
    return done.stdout


def say(text: str) -> None:
    """A line of the log."""
    print(f"home: {text}", flush=True)


if __name__ == "__main__":
    main()
