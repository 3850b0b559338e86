"""What is made, by whom, and what is refused; DVC's queue itself is in test_study.py."""

import subprocess
from pathlib import Path

import pytest

from facerep.core.errors import FacerepError
from facerep.study.config import Study
from facerep.study.runs.bench import Bench, Share
from facerep.study.runs.plan import Run
from facerep.study.runs.queue import Experiment, Queue, refuse_changes
from tests.support.study.runs import STUDY, planner, study

TUNE = {"seeds": [0], "labels": [4], "grid": {"finetune.learning_rate": [0.002, 0.004]}}


@pytest.fixture(autouse=True)
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """test_pace.py times a step; here nothing is trained."""
    monkeypatch.setattr(Bench, "expected", lambda *_: "18 runs remain.")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("FACEREP_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setattr("facerep.study.runs.queue.finished", dict)
    return Bench(study(seeds=[0, 1, 2], tune=TUNE), tmp_path / "results")


def test_a_share_does_not_choose_by_runs_that_are_not_its_own(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine may come to another choice, and then its runs would be of another study."""
    monkeypatch.setattr("facerep.study.runs.queue.refuse_changes", lambda: pytest.fail("before anything is queued"))
    with pytest.raises(
        FacerepError, match=r"--seeds: what original runs with is not chosen yet, by runs of seed 0\. .*--seeds 0"
    ):
        bench.work(1, Share(seeds=[1, 2]))


def test_a_share_does_not_run_with_values_that_another_variant_has_yet_to_choose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facerep.study.runs.queue.finished", dict)
    monkeypatch.setattr("facerep.study.runs.queue.refuse_changes", lambda: pytest.fail("before anything is queued"))
    variants = STUDY["variants"] | {"longer": {"about": "longer", "pretext": "original", "tuned": "original"}}
    bench = Bench(study(variants=variants, tune=TUNE), tmp_path / "results")
    with pytest.raises(FacerepError, match=r"--variants: takes the values of original, .*; add it or make it first"):
        bench.work(1, Share(variants=["longer"]))


def test_a_share_is_the_runs_of_its_seeds_and_variants() -> None:
    of = study(seeds=[0, 1, 2])
    mine = [run for run in planner(of).runs({}) if Share([1, 2], ["original", "grayscale"]).has(run)]
    assert {(run.seed, run.variant) for run in mine} == {(s, v) for s in (1, 2) for v in ("original", "grayscale")}
    assert len(mine) == 3 * 4  # at each of the three budgets
    assert all(Share().has(run) for run in planner(of).runs({}))


def test_a_run_whose_worker_died_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its message stays among the active ones for ever; other workers live on."""
    monkeypatch.setenv("FACEREP_SCRATCH", str(tmp_path / "scratch"))
    bench = Bench(study(seeds=[0], budgets={4: {}}), tmp_path / "results")
    share = Share(variants=["rotated"])
    (run,) = filter(share.has, bench.runs({}))
    queue = {"active": False, "dead": True}
    done: dict[str, Experiment] = {}
    log: list[str] = []

    def look() -> Queue:
        active = {run.name} if queue["active"] else set()
        return Queue(set(), active, active if queue["dead"] else set(), 1)

    def add(runs: object) -> None:
        log.extend(f"add {one.name}" for one in runs)  # type: ignore[attr-defined]
        queue["active"] = bool(log)

    def forget(names: object) -> None:
        for name in names:  # type: ignore[attr-defined]
            log.append(f"forget {name}")
            queue.update(active=False, dead=False)

    def sleep(seconds: float) -> None:
        if not queue["dead"] and queue["active"]:
            done[run.name] = Experiment("c", "c")
            queue["active"] = False

    for name, fake in (
        ("queue", look),
        ("add", add),
        ("forget", forget),
        ("failed", set),
        ("start", lambda jobs: None),
    ):
        monkeypatch.setattr(f"facerep.study.runs.queue.{name}", fake)
    monkeypatch.setattr("facerep.study.runs.queue.finished", lambda: done)
    monkeypatch.setattr("facerep.study.runs.queue.refuse_changes", lambda: None)
    monkeypatch.setattr("facerep.study.runs.bench._chosen_by", lambda experiment: (0.5, "balanced_accuracy"))
    monkeypatch.setattr("facerep.study.runs.bench.time.sleep", sleep)
    monkeypatch.setattr("facerep.study.runs.bench.LOST_S", -1.0)
    bench.work(1, share)
    assert log == [f"add {run.name}", f"forget {run.name}", f"add {run.name}"]
    assert run.name in done

    def changed() -> None:
        raise FacerepError("edited meanwhile")

    monkeypatch.setattr("facerep.study.runs.queue.refuse_changes", changed)
    with pytest.raises(FacerepError, match="edited meanwhile"):
        bench.work(1)  # the runs outside of the share: looked at before each batch of runs, not the first alone


@pytest.mark.parametrize(("absent", "failed"), [(1, 0), (2, 1)])
def test_a_run_that_is_nowhere_for_a_moment_has_not_failed(
    absent: int, failed: int, bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker has taken its message from the queue, and not said yet that it runs it."""
    name, looks = "small-rotated-4-s0", 0
    done: dict[str, Experiment] = {}

    def look() -> Queue:
        nonlocal looks
        looks += 1
        done.update({name: Experiment("c", "c")} if looks == 3 + absent else {})
        waits, runs = looks == 1, looks == 2 + absent
        return Queue({name} if waits else set(), {name} if runs else set(), set(), 1)

    monkeypatch.setattr("facerep.study.runs.queue.queue", look)
    monkeypatch.setattr("facerep.study.runs.queue.finished", lambda: done)
    monkeypatch.setattr("facerep.study.runs.bench.POLL_S", 0.0)
    monkeypatch.setattr("facerep.study.runs.bench._chosen_by", lambda experiment: (0.5, "accuracy"))
    bench._watch({name}, 1, "small")
    assert looks == (3 if failed else 4)
    assert capsys.readouterr().out.count("failed") == failed


def test_uncommitted_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments], cwd=tmp_path, check=True)

    (tmp_path / "params.yaml").write_text("seed: 0\n")
    (tmp_path / "README.md").write_text("one\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "all")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("two\n")
    refuse_changes()  # no run depends on it
    (tmp_path / "params.yaml").write_text("{seed: 0}   # `dvc exp run` writes the same values in a style of its own\n")
    refuse_changes()
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    with pytest.raises(FacerepError, match=r"^params\.yaml: changed since the last commit\. Commit it first"):
        refuse_changes()


def made_in_a_first_look(of: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Run], Share]:
    """The runs that it asks for, each of which is done at once."""
    monkeypatch.setenv("FACEREP_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setattr("facerep.study.runs.queue.finished", dict)
    bench, made = Bench(of, tmp_path / "results"), list[Run]()
    monkeypatch.setattr(bench, "_make", lambda runs, *more: made.extend(runs))
    monkeypatch.setattr(bench, "scores", lambda: {run.name: 0.5 for run in made})
    share = bench.first_look(2)
    return made, share


def test_a_first_look_is_the_baseline_of_one_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It tunes with two rates at four labels, and then runs the three budgets."""
    made, share = made_in_a_first_look(study(seeds=[0, 1, 2], tune=TUNE), tmp_path, monkeypatch)
    assert share == Share([0], ["original"])
    assert {(run.variant, run.seed) for run in made} == {("original", 0)}
    assert sorted(run.labels for run in {run.name: run for run in made}.values()) == [2, 4, 4, 8]
    made, _ = made_in_a_first_look(study(seeds=[3, 4]), tmp_path, monkeypatch)
    assert sorted((run.seed, run.labels) for run in made) == [(3, 2), (3, 4), (3, 8)]


def test_of_a_tuning_over_many_seeds_it_makes_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of = study(seeds=[0, 1, 2], tune=TUNE | {"seeds": [1, 2]})
    made, share = made_in_a_first_look(of, tmp_path, monkeypatch)
    assert share == Share([1], ["original"])
    assert [(run.seed, run.labels) for run in made] == [(1, 4), (1, 4)]
