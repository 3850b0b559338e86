"""Training cannot be killed: whatever stops `dvc repro` or `dvc exp run`, the same command again ends with the same bits.

Real runs of a tiny pipeline, disturbed from outside, against one that nobody disturbed.
"""

import hashlib
import importlib
import json
import os
import random
import re
import shutil
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import psutil
import pytest
import yaml
from pydantic import BaseModel
from transformers import ConvNextModel

from facerep.params import Params, load_params
from facerep.resume.checkpoints import checkpoints_of
from tests.support.gcs import running_server
from tests.support.killing import (
    PATIENCE,
    Run,
    assert_same,
    checkpoints,
    commit,
    copied,
    finished,
    going_on,
    newest,
    position,
    results,
)
from tests.support.micro import classifier, micro_config
from tests.support.paths import ROOT
from tests.support.repository import TINY, set_params, sh, tiny_repository

EPOCHS = {"pretrain": 8, "finetune": 10}
SMALL = TINY | {
    "threads": 1,
    "save_every_s": 0.2,
    "pretrain.epochs": EPOCHS["pretrain"],
    "pretrain.batch_size": 8,
    "finetune.steps": EPOCHS["finetune"] * 4,
    "finetune.score_every": 4,
    "finetune.batch_size": 8,
}
REPRO = ("dvc", "repro", "finetune")
full_device = pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs Linux's /dev/full")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small clone with its data made and nothing trained, committed. For copying."""
    clone = tiny_repository(tmp_path_factory.mktemp("prepared") / "facerep", SMALL)
    for folder in ("data", "models"):  # as committed: DVC takes its own lines back when a run fails
        (clone / folder).mkdir(exist_ok=True)
        shutil.copy(ROOT / folder / ".gitignore", clone / folder / ".gitignore")
    sh("dvc", "repro", "select", cwd=clone)
    commit(clone, "data")
    return clone


@pytest.fixture(scope="module")
def left_alone(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The run that nobody disturbs. It goes on while others are disturbed."""
    with Run(copied(prepared, tmp_path_factory.mktemp("undisturbed") / "facerep"), *REPRO) as run:
        yield run


@pytest.fixture(scope="module")
def undisturbed(left_alone: Run) -> dict[str, bytes]:
    """What it ends with."""
    assert going_on(left_alone.end()) == []
    assert finished(left_alone.clone) == ["finetune"], (
        "the mark of pretraining, and its checkpoints, went with the next stage"
    )
    assert checkpoints(left_alone.clone, "pretrain") == []
    return results(left_alone.clone)


# One clone, stopped in one way after the other. Each test starts the same command and stops it.


@pytest.fixture(scope="module")
def disturbed(prepared: Path, left_alone: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(prepared, tmp_path_factory.mktemp("disturbed") / "facerep")


Stop = Callable[[Run, psutil.Process], None]


def stopped(clone: Path, stage: str, stop: Stop, env: dict[str, str] | None = None) -> str:
    """`dvc repro`, until `stage` has saved a further state, then `stop`; the output. The older state was gone on from."""
    before = newest(clone, stage)
    with Run(clone, *REPRO, env=env) as run:
        stop(run, run.until_trained(stage, lambda: newest(clone, stage) > before))
    assert newest(clone, stage) > before
    for path in checkpoints(clone, stage):
        assert hashlib.sha256(path.read_bytes()).hexdigest().startswith(path.stem.rpartition("-")[2]), "it is whole"
    return run.output


def goes_on(output: str, stage: str, before: tuple[int, int]) -> bool:
    return going_on(output) == ([] if before < (0, 0) else [(stage, *before)])


def stop_is_told(output: str, clone: Path, reason: str) -> None:
    """The sentence, and that what it says is saved."""
    sentence = (
        rf"^pretrain: stopped by {reason} in epoch (\d+), after (\d+) of \d+ steps; the checkpoint is saved: .*\.$"
    )
    said = re.findall(sentence, output, re.MULTILINE)
    assert said, output
    assert newest(clone, "pretrain") == (int(said[0][0]) - 1, int(said[0][1]))
    assert "Traceback" not in output


def killed(run: Run, _: psutil.Process) -> None:
    time.sleep(random.Random(3).uniform(0, 0.4))
    run.kill()


@pytest.mark.slow
def test_kill_9_leaves_a_state(disturbed: Path) -> None:
    stopped(disturbed, "pretrain", killed)


@pytest.mark.slow
def test_sigterm_to_the_stage_saves_at_once_and_is_told(disturbed: Path) -> None:
    def terminated(run: Run, stage: psutil.Process) -> None:
        stage.terminate()
        assert "failed to reproduce 'pretrain'" in run.end(ok=False)

    before = newest(disturbed, "pretrain")
    output = stopped(disturbed, "pretrain", terminated)
    assert goes_on(output, "pretrain", before)
    stop_is_told(output, disturbed, "SIGTERM")


@pytest.mark.slow
def test_ctrl_c_saves_at_once_and_is_told(disturbed: Path) -> None:
    def interrupted(run: Run, _: psutil.Process) -> None:
        run.signal(signal.SIGINT)
        run.end(ok=False)

    before = newest(disturbed, "pretrain")
    output = stopped(disturbed, "pretrain", interrupted)
    assert goes_on(output, "pretrain", before)
    stop_is_told(output, disturbed, "Ctrl-C")


@pytest.mark.slow
def test_a_stage_whose_dvc_was_killed_saves_and_ends(disturbed: Path) -> None:
    """With a shell between them that lives on: bash puts the stage in its own place, Debian's /bin/sh starts it."""

    def orphaned(run: Run, stage: psutil.Process) -> None:
        os.kill(run.pid, signal.SIGKILL)
        run.end(ok=False)
        stage.wait(PATIENCE)

    before = newest(disturbed, "pretrain")
    output = stopped(disturbed, "pretrain", orphaned, {"SHELL": "/bin/sh"})
    assert goes_on(output, "pretrain", before)
    stop_is_told(output, disturbed, "the end of the process that started it")


@pytest.mark.slow
@full_device
def test_a_full_disk_is_told_and_leaves_the_older_state(disturbed: Path) -> None:
    def filled(run: Run, _: psutil.Process) -> None:
        part = checkpoints(disturbed, "pretrain")[-1].with_name(".checkpoint.part")
        while True:  # a state may just be written there
            try:
                part.symlink_to("/dev/full")
                break
            except FileExistsError:
                time.sleep(0.001)
        run.end(ok=False)

    before = newest(disturbed, "pretrain")
    output = stopped(disturbed, "pretrain", filled)
    assert goes_on(output, "pretrain", before)
    folder = checkpoints(disturbed, "pretrain")[-1].parent
    assert f"\npretrain: {folder}: the disk is full; free some space and run again.\n" in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_a_kill_while_dvc_takes_the_results_loses_no_epoch(disturbed: Path) -> None:
    """The training has ended, and nothing is in DVC's cache and lock yet."""
    with Run(disturbed, *REPRO) as run:
        run.until("pretrain", lambda _: finished(disturbed) == ["pretrain"])
        run.kill()
    with Run(disturbed, *REPRO) as run:
        run.until("pretrain", lambda _: "\npretrain: this run had ended, its result is taken from " in run.output)
        run.kill()
    assert going_on(run.output) == []
    assert newest(disturbed, "pretrain") == (EPOCHS["pretrain"], 0)


@pytest.mark.slow
def test_a_damaged_state_is_told_and_the_one_before_it_is_used(disturbed: Path) -> None:
    """And kill -9 in the next stage."""
    if len(checkpoints(disturbed, "pretrain")) < 2:
        stopped(disturbed, "pretrain", killed)
    *_, older, last = checkpoints(disturbed, "pretrain")
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    output = stopped(disturbed, "finetune", killed)
    assert f"{last} is damaged (its content is not what was written); going on from the one before it." in output
    assert goes_on(output, "pretrain", position(older.name))


@pytest.mark.slow
def test_after_all_that_the_run_ends_with_the_same_bits(disturbed: Path, undisturbed: dict[str, bytes]) -> None:
    """With a state of fine-tuning that has lost its end."""
    while len(checkpoints(disturbed, "finetune")) < 2:
        stopped(disturbed, "finetune", killed)
    *_, older, last = checkpoints(disturbed, "finetune")
    os.truncate(last, last.stat().st_size - 1)
    output = sh(*REPRO, cwd=disturbed)
    assert f"{last} is damaged (its content is not what was written); going on from the one before it." in output
    assert goes_on(output, "finetune", position(older.name))
    assert_same(disturbed, undisturbed)
    assert finished(disturbed) == ["finetune"] and checkpoints(disturbed, "pretrain") == []


# What changes, starts afresh


class Named(Exception):  # noqa: N818
    """The name of the run that was about to start."""


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_every_parameter_that_dvc_watches_names_another_run(
    stage: str, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module(f"facerep.{stage}.stage")

    def named(*run: Any) -> None:
        raise Named(checkpoints_of(*run).name)

    def name(params: Params) -> str:
        with pytest.raises(Named) as told:
            if stage == "pretrain":
                module.pretrain(params, data_folder, tmp_path, tmp_path, tmp_path)
            else:
                module.finetune(params, data_folder, tmp_path, tmp_path, tmp_path, tmp_path)
        return str(told.value)

    monkeypatch.setattr(module, "checkpoints_of", named)
    # no name depends on them, and large networks take their time
    monkeypatch.setattr(module, "build_backbone", lambda *_: ConvNextModel(micro_config()), raising=False)
    monkeypatch.setattr(module, "new_classifier", lambda *_: classifier(), raising=False)
    params = load_params(ROOT / "params.yaml")
    pretrain = params.pretrain.model_copy(update={"reconstruction_loss": "huber"})  # which goes with any color space
    params = params.model_copy(update={"pretrain": pretrain})
    names = {"": name(params)}
    watched = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["params"]
    for key in watched:
        names |= {changed: name(other) for changed, other in changes(params, key.split("."))}
    assert len(names) > 25
    same = [key for key in names if key and names[key] == names[""]]
    # a run is named by what `measure` comes to: of even classes `auto` is accuracy
    assert same == [key for key in names if key == "measure"]


def changes(model: Any, keys: list[str], path: str = "") -> Iterator[tuple[str, Any]]:
    """Copies of checked parameters with one value changed, for each value that lies below the keys."""
    for key in keys[:1] or type(model).model_fields:
        value = getattr(model, key)
        if isinstance(value, BaseModel):
            others = changes(value, keys[1:], f"{path}{key}.")
        else:
            others = iter([(path + key, another(value, type(model).model_fields[key].annotation))])
        for changed, other in others:
            yield changed, model.model_copy(update={key: other})


def another(value: Any, allowed: Any) -> Any:
    if get_origin(allowed) is Literal:
        return next(other for other in get_args(allowed) if other != value)
    if isinstance(value, str):
        return {"rotated_grayscale": "rotated", "atto": "femto"}[value]
    if isinstance(value, bool):
        return not value
    return value * 2 if value else 1


# The long ones


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_stage_whose_dvc_is_killed_while_it_imports_ends_too(prepared: Path, tmp_path: Path) -> None:
    """Else it would train on for nobody, while the next `dvc repro` waits for it and then begins anew."""
    clone = copied(prepared, tmp_path / "facerep")
    with Run(clone, *REPRO) as run:
        stage = run.until("pretrain", lambda process: any("libtorch" in m.path for m in process.memory_maps()))
        os.kill(run.pid, signal.SIGKILL)
        stage.wait(PATIENCE)
    stop_is_told(run.output, clone, "the end of the process that started it")
    assert not (clone / "models" / "pretrained").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_ctrl_c_in_the_first_step_changes_no_bit(prepared: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    """A terminal's Ctrl-C comes to the compiler too that the first step calls."""
    clone = copied(prepared, tmp_path / "facerep")
    with Run(clone, *REPRO) as run:
        run.until("pretrain", lambda stage: any(p.name() == "cc1" for p in stage.children(recursive=True)))
        run.signal(signal.SIGINT)
        run.end(ok=False)
    before = newest(clone, "pretrain")
    assert goes_on(sh(*REPRO, cwd=clone), "pretrain", before)
    assert_same(clone, undisturbed)


def killed_often(clone: Path, *command: str, times: int = 10, seed: int) -> str:
    """Kill the whole group `times` times in each training stage, then let it end; the output of the last run.

    Each kill falls a random moment after training has come to a random epoch, or into the first steps of all.
    """
    draw = random.Random(seed)
    for stage, epochs in EPOCHS.items():
        for epoch in sorted(draw.choices(range(-1, epochs - 3), k=times)):
            before = newest(clone, stage)
            with Run(clone, *command) as run:
                run.until_trained(stage, lambda stage=stage, epoch=epoch: newest(clone, stage)[0] >= epoch)
                time.sleep(draw.uniform(0, 0.3))
                assert run.trains(stage), "it is killed while it trains"
                run.kill()
            assert newest(clone, stage) >= before
    before = newest(clone, "finetune")
    with Run(clone, *command) as run:
        output = run.end()
    assert goes_on(output, "finetune", before)
    return output


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills_of_dvc_repro(prepared: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    clone = copied(prepared, tmp_path / "facerep")
    killed_often(clone, *REPRO, seed=0)
    assert_same(clone, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills_of_an_experiment(prepared: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    """Each in a temporary copy of its own, whose params.yaml has a value of -S in it."""
    clone = copied(prepared, tmp_path / "facerep")
    set_params(clone / "params.yaml", {"pretext": "rotated"})
    commit(clone, "another pretext")
    output = killed_often(clone, "dvc", "exp", "run", "--temp", "-S", "pretext=rotated_grayscale", "finetune", seed=1)
    (name,) = re.findall(r"^Ran experiment\(s\): (\S+)$", output, re.MULTILINE)
    assert not (clone / "models" / "pretrained").exists()
    sh("dvc", "exp", "apply", name, cwd=clone)
    assert_same(clone, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_machine_that_vanishes_is_gone_on_from_elsewhere(
    prepared: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """The state lies in a bucket. The first clone is killed and deleted; the second is fresh, and makes its data anew."""
    first, second = copied(prepared, tmp_path / "first" / "facerep"), tmp_path / "second" / "facerep"
    set_params(first / "params.yaml", {"save_every_s": 2.0})  # the way to a bucket is long; no result depends on it
    commit(first, "fewer checkpoints")
    sh("git", "clone", "-q", str(first), str(second), cwd=tmp_path)
    with running_server("facerep") as address:
        env = {"FACEREP_SCRATCH": "gs://facerep/runs", "STORAGE_EMULATOR_HOST": address}
        with Run(first, *REPRO, env=env) as run:
            run.until_trained("pretrain", lambda: newest_in_bucket(address) >= (3, 0))
            run.kill()
        before = newest_in_bucket(address)
        shutil.rmtree(first)
        assert not (second / "data" / "faces").exists()
        output = sh(*REPRO, cwd=second, env=env)
        assert "Running stage 'download'" in output
        assert goes_on(output, "pretrain", before)
        assert newest_in_bucket(address) == (EPOCHS["pretrain"], 0), "what has ended stays: this machine may vanish too"
        third = tmp_path / "third" / "facerep"
        sh("git", "clone", "-q", str(second), str(third), cwd=tmp_path)
        assert "pretrain: this run had ended" in sh("dvc", "repro", "pretrain", cwd=third, env=env)
    assert_same(second, undisturbed)


def newest_in_bucket(address: str) -> tuple[int, int]:
    with urllib.request.urlopen(f"{address}/storage/v1/b/facerep/o?prefix=runs/") as answer:
        items = json.load(answer).get("items", [])
    names = [item["name"].rpartition("/")[2] for item in items if item["name"].startswith("runs/pretrain-")]
    return max((position(name) for name in names if name != "finished"), default=(-1, 0))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("change", [{"pretrain.learning_rate": 0.003}, {"crop.quality": 90}], ids=["params", "data"])
def test_anything_changed_starts_afresh(change: dict[str, object], prepared: Path, tmp_path: Path) -> None:
    killed_one, fresh = (copied(prepared, tmp_path / name / "facerep") for name in ("killed", "fresh"))
    with Run(killed_one, *REPRO) as run:
        run.until_trained("pretrain", lambda: newest(killed_one, "pretrain") >= (2, 1))
        run.kill()
    stale = checkpoints(killed_one, "pretrain")
    assert stale
    for clone in (killed_one, fresh):
        set_params(clone / "params.yaml", change)
        assert going_on(sh("dvc", "repro", "pretrain", cwd=clone)) == []
    assert set(stale) < set(checkpoints(killed_one, "pretrain")), "beside those of the run that has ended since"
    assert_same(killed_one, results(fresh))
