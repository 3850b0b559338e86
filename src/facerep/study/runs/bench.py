"""Running a study: what is missing is queued and watched until all is there; then it is collected."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from facerep.core.errors import FacerepError
from facerep.core.files import write_json
from facerep.params import Params
from facerep.resume.scratch import scratch_folder
from facerep.study.config import Setting, Study
from facerep.study.runs import queue
from facerep.study.runs.amounts import has_teacher, too_few
from facerep.study.runs.counts import counted, with_named
from facerep.study.runs.pace import Pace, kinds_of, pace
from facerep.study.runs.plan import Planner, Run
from facerep.study.runs.preflight import look_at_data, refuse_clone, refuse_uncommitted
from facerep.study.runs.records import (
    Record,
    Tables,
    joined,
    read_record,
    read_tables,
    read_tuning,
    split,
    tables_of,
    val_score,
)
from facerep.study.runs.remaining import Remaining, remaining, words
from facerep.study.runs.said import Said
from facerep.study.runs.tuning import Choice, tune, undecided
from facerep.study.runs.warm import warm_stages

POLL_S = 3.0
LOST_S = 30.0  # after which a run whose process is gone will not be collected any more
TRIES = 2


class Share(NamedTuple):
    """The part of a study that this machine runs; None: all."""

    seeds: list[int] | None = None
    variants: list[str] | None = None

    def has(self, run: Run) -> bool:
        """Whether the run is in it."""
        return (self.seeds is None or run.seed in self.seeds) and (
            self.variants is None or run.variant in self.variants
        )


ALL = Share()


class Bench:
    """A study in this repository: what is planned, what is done, and where its results lie."""

    def __init__(self, study: Study, results: Path, params: Path = Path("params.yaml")) -> None:
        self.study = study
        self.planner = Planner(study, params)
        self._looked = False
        self.results = results
        # how long runs took, which no two machines agree on
        self.journal = scratch_folder() / f"study-{study.name}.json"

    def scores(self) -> dict[str, float]:
        """What chose a run's epoch, as it was on val, by the run's name: of experiments, and of what results/ keeps."""
        known = {
            row["experiment"]: row["val_accuracy"] if row["val_score"] is None else row["val_score"]
            for row in read_tables(self.results)["runs"].to_pylist()
        }
        known |= {
            row["experiment"]: row["val_score"]
            for row in read_tuning(self.results).to_pylist()
            if row["val_score"] is not None
        }
        for name, experiment in queue.finished().items():
            if name not in known and name.startswith(f"{self.study.name}-"):
                known[name], _ = _chosen_by(experiment)
        return known

    def choice(self) -> Choice:
        """What tuning has come to."""
        return tune(self.study, self.planner, self.scores())

    def runs(self, tuned: dict[str, Setting]) -> list[Run]:
        """Every run of the study, at the values that were chosen."""
        return self.planner.runs(tuned)

    def missing(self, runs: Iterable[Run]) -> list[Run]:
        """Those that neither an experiment nor the results hold."""
        done = {*queue.finished(), *read_tables(self.results)["runs"]["experiment"].to_pylist()}
        return [run for run in runs if run.name not in done]

    def work(self, jobs: int, share: Share = ALL) -> None:
        """Make every run of the share that is missing: first those that choose values, then the others.

        Raises FacerepError naming the runs that failed, when all others are done, and where a share wants settings that
        are not chosen yet by runs outside of it.
        """
        mine = list(self.study.variants) if share.variants is None else share.variants
        wanted = {*mine, *(self.study.variants[name].tuned for name in mine)}  # these, and those whose values they take
        while True:
            choice = self.choice()
            tuning = [run for run in choice.missing if run.variant in wanted]
            if not tuning:
                break
            if others := sorted({run.variant for run in tuning} - set(mine)):
                raise FacerepError(
                    f"--variants: takes the values of {others[0]}, which are not chosen yet; add it or make it first."
                )
            if foreign := [run for run in tuning if not share.has(run)]:
                # to choose again elsewhere may come to something else
                raise FacerepError(
                    f"--seeds: what {foreign[0].variant} runs with is not chosen yet, by runs of seed {foreign[0].seed}. "
                    f"Make these first, with --seeds {foreign[0].seed}, and where that was on another machine bring them "
                    "here: `dvc exp push -A origin` there, `dvc exp pull -A origin` here."
                )
            self._make(self.planner.pretrained_once(tuning), jobs, f"{self.study.name}: tuning", share)
        # a variant whose values are not chosen yet is another machine's
        waiting = undecided(self.study, choice)
        runs = [run for run in self.runs(choice.tuned) if run.variant not in waiting]
        self._make(self.missing(run for run in runs if share.has(run)), jobs, self.study.name, share)

    def first_look(self, jobs: int) -> Share:
        """Make the smallest part of the study that says something: the baseline's runs of one seed; that share.

        Where the baseline is tuned over several seeds, no more than the tuning of the first: the rest is no first look.
        """
        study = self.study
        seed = next((s for s in study.tune.seeds if s in study.seeds), study.seeds[0]) if study.tune else study.seeds[0]
        share = Share([seed], [study.baseline])
        while tuning := [run for run in self.choice().missing if run.variant == study.baseline]:
            if not (mine := [run for run in tuning if share.has(run)]):
                return share
            self._make(mine, jobs, f"{study.name}: tuning", share)
        runs = self.runs(self.choice().tuned)
        self._make(self.missing(run for run in runs if share.has(run)), jobs, study.name, share)
        return share

    @staticmethod
    def _wait(names: set[str], done: int, seconds: float) -> None:
        """So long, or until another run has ended well, which git alone is asked."""
        until = time.time() + seconds
        while (left := until - time.time()) > 0:
            time.sleep(min(1.0, left))
            if len(names & queue.finished().keys()) > done:
                return

    def remaining(self, selected: dict[str, Any]) -> Remaining:
        """What of the study is still to be made, and about how long it takes; `selected`: metrics/select.json of a run."""
        return remaining(self.study, self.planner, self.scores(), self.seconds(), self._with_named(selected))

    def too_few_views(self) -> list[str]:
        """A sentence for each variant that pretraining cannot be judged by, as far as the photographs are known."""
        runs = [(run.variant, self.planner.params(run.settings)) for run in self.runs(self.choice().tuned)]
        return too_few(runs, self._counts())

    def expected(self, jobs: int) -> str:
        """How long what is missing takes, in a sentence, before it starts: by a step that is timed now; or nothing.

        Where runs were timed before, it goes by these.
        """
        selected = self._counts()
        timed: list[tuple[list[Params], Pace]] = []

        def clock(params: list[Params]) -> Pace | None:
            found = pace(params, jobs)
            if found is not None:
                timed.append((params, found))
            return found

        left = remaining(self.study, self.planner, self.scores(), self.seconds(), selected, clock)
        if not left.runs:
            return ""
        if left.seconds is None:
            return f"{words(left, jobs)}; how long they take is known after the first."
        if not timed:
            return f"{words(left, jobs)}."
        params, found = timed[0]
        _, kind = kinds_of(params[0])
        step = kind.batch * found.train[kind]
        how = f"A training step of {kind.batch} photographs of {kind.image_size} px takes {step:.2g} s here"
        at_once = f", timed {jobs} at a time" if jobs > 1 else ""
        without = (
            "download, crop and the teacher's own computing" if any(map(has_teacher, params)) else "download and crop"
        )
        return f"{how}{at_once}: {words(left, jobs)}, {without} not counted."

    def _counts(self) -> dict[str, Any]:
        """metrics/select.json of a run, or what names alone tell of it; empty where neither is known."""
        return self._with_named(self._selected()) or counted(self.planner.params(self.runs({})[0].settings))

    def _with_named(self, selected: dict[str, Any]) -> dict[str, Any]:
        first = {run.variant: run for run in reversed(self.runs({}))}
        params = [self.planner.params(run.settings) for run in first.values()]
        return with_named(selected, params, self._about().get("effort", {}))

    def _about(self) -> dict[str, Any]:
        about = self.results / "about.json"
        told: dict[str, Any] = json.loads(about.read_text()) if about.is_file() else {}
        return told

    def _selected(self) -> dict[str, Any]:
        """metrics/select.json of a run, as the results keep it; empty where they do not."""
        found: dict[str, Any] = self._about().get("data", {}).get("select", {})
        return found

    def seconds(self) -> dict[str, float]:
        """How long runs took, by name: what this machine noted, and what results/ keeps."""
        kept = read_tables(self.results)["runs"].select(["experiment", "seconds"]).to_pylist()
        if "seconds" in (table := read_tuning(self.results)).column_names:
            kept += table.select(["experiment", "seconds"]).to_pylist()
        return {row["experiment"]: row["seconds"] for row in kept if row["seconds"] is not None} | _seconds(
            self.journal
        )

    def unplanned(self, choice: Choice) -> list[str]:
        """The runs that results/ holds, but the study no longer plans: its file or params.yaml has changed."""
        kept = read_tables(self.results)["runs"]["experiment"].to_pylist()
        return sorted(set(kept) - {run.name for run in self.runs(choice.tuned)})

    def collect(self, choice: Choice) -> tuple[Tables, list[Record], int]:
        """The tables of all runs that are there, the records read anew for them, and how many runs are missing."""
        seconds = self.seconds()
        done, kept = queue.finished(), split(read_tables(self.results))
        parts, records = [], []
        runs = self.runs(choice.tuned)
        for run in runs:
            if run.name in done:
                record = read_record(run, done[run.name])
                parts.append(tables_of(record, seconds.get(run.name)))
                records.append(record)
            elif run.name in kept:
                parts.append(kept[run.name])
        return joined(parts, list(self.study.variants)), records, len(runs) - len(parts)

    def _look(self, share: Share) -> None:
        """Raises FacerepError for what would fail every run of the share's variants, at any seed and budget."""
        queue.refuse_changes()
        if self._looked:
            return
        refuse_clone()
        choice = self.choice()
        runs = [*(trial.run for trial in choice.trials), *self.runs(choice.tuned)]
        runs = [run for run in runs if share.variants is None or run.variant in share.variants]
        done = queue.finished()
        params = [self.planner.params(run.settings) for run in runs]
        refuse_uncommitted({each.select.exclude for each in params})
        look_at_data(
            params,
            [self.planner.params(run.settings) for run in runs if run.name in done],
        )
        self._looked = True

    def _make(self, runs: list[Run], jobs: int, title: str, share: Share) -> None:
        """Queue the runs unless they are queued, start workers, and wait until none is left."""
        if not runs:
            return
        first_time = not self._looked
        self._look(share)
        if first_time and (expected := self.expected(jobs)):
            for sentence in (expected, *self.too_few_views()):
                print(f"{self.study.name}: {sentence}", flush=True)
        warm_stages()
        names = {run.name for run in runs}
        failed: set[str] = set()
        for _ in range(TRIES):  # a worker of DVC's may die and take a run along, or two be in each other's way
            there = queue.queue()
            gone = queue.failed() - there.queued - there.active | (set() if there.workers else there.active)
            queue.forget(names & gone)
            missing = names - queue.finished().keys() - ((there.queued | there.active) - gone)
            queue.add(run for run in runs if run.name in missing)
            queue.start(jobs)
            hopeless = self._watch(names, jobs, title)
            failed = names - queue.finished().keys()
            if not failed:
                return
            if hopeless:
                break
        first, words = queue.why(run.name for run in runs if run.name in failed)
        raise FacerepError(
            f"{len(failed)} of {len(names)} runs failed, {first} first: {words.rstrip('.')} "
            f"(`dvc queue logs {first}` has it all). What is done stays done; run the same command again to try these again."
        )

    def _watch(self, names: set[str], jobs: int, title: str) -> bool:
        """Wait, and note how long each run takes; whether it is hopeless, since so far every run has failed."""
        began: dict[str, float] = {}
        lost: dict[str, float] = {}  # since when
        absent: set[str] = set()  # without a result, and neither queued nor active when last looked
        over = names & queue.finished().keys()
        with Said(title, len(names), len(over)) as said:
            while True:
                now, there, done = time.time(), queue.queue(), queue.finished()
                for name in sorted(there.active & names - began.keys()):
                    began[name] = now
                    said.start(name)
                lost = {name: lost.get(name, now) for name in there.lost & names}
                queue.forget(name for name, since in lost.items() if now - since > LOST_S)  # to be made again
                # between the queue and a worker a run is in neither for a moment: so it has ended when twice it is in none
                nowhere = names - there.queued - there.active - done.keys()
                left = names & (there.queued | there.active) | (nowhere - absent)
                absent = nowhere
                ended = {name: now - start for name, start in began.items() if name not in left}
                _note(self.journal, {name: s for name, s in ended.items() if name in done})
                for name in sorted(names - left - over):
                    said.end(name, ended.get(name), *(_chosen_by(done[name]) if name in done else (None,)))
                over = names - left
                began = {name: start for name, start in began.items() if name in left}
                said.left(len(left))
                hopeless = len(names - left) > jobs and not names & done.keys()
                if hopeless:
                    queue.forget(left)  # the others would fail as well
                if hopeless or not left:
                    return hopeless
                if there.workers < min(jobs, len(left)):  # a worker of DVC's may end before the queue does
                    queue.start(jobs)
                # DVC reads all that ever ended to say what runs: a twentieth of a core at most
                self._wait(names, len(names & done.keys()), max(POLL_S, 20 * (time.time() - now)))


def _chosen_by(experiment: queue.Experiment) -> tuple[float, str]:
    """By what its run chose its epoch: the value on val, and the name of the measure."""
    finetune = json.loads(queue.files_of(experiment.commit, "metrics/finetune.json")["metrics/finetune.json"])
    return val_score(finetune), str(finetune["measure"])


def _seconds(journal: Path) -> dict[str, float]:
    if not journal.is_file():
        return {}
    value: dict[str, float] = json.loads(journal.read_text())
    return value


def _note(journal: Path, seconds: dict[str, float]) -> None:
    if seconds:
        write_json(journal, _seconds(journal) | {name: round(s, 1) for name, s in seconds.items()})
