"""What can be known about cloud/ without an account: the tools that will read it do read it, and mistakes are sentences.

SkyPilot, Google's Batch and shellcheck are too much for everyday; `make cloud` runs this file where they are installed.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.paths import ROOT

CLOUD = ROOT / "cloud"
SCRIPTS = sorted(CLOUD.glob("*.sh"))
TASK = yaml.safe_load((CLOUD / "study.sky.yaml").read_text())
NAMES = {"STUDY": "studies/demo.yaml", "BUCKET": "my-bucket", "PROJECT": "my-project", "REGION": "us-central1"}
URL = {"GIT_URL": "https://github.com/you/facerep.git", "GIT_REV": "a" * 40}


def bash(script: Path, *arguments: str, ok: bool = True, **env: str) -> str:
    """Run a script with these variables alone, and PATH; its output, both streams."""
    done = subprocess.run(
        ["bash", str(script), *arguments],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"} | env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert (done.returncode == 0) is ok, done.stdout
    return done.stdout


def read_by(*names: str) -> set[str]:
    """The variables that these scripts take from their environment."""
    return {name for script in names for name in re.findall(r"\$\{([A-Z][A-Z_]+):-", (CLOUD / script).read_text())} | {
        "STUDY",
        "BUCKET",
        "GIT_URL",
        "GIT_REV",
    }


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_bash_reads_the_scripts(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)


def test_shellcheck_finds_nothing() -> None:
    beside = Path(sys.executable).parent / "shellcheck"
    tool = str(beside) if beside.is_file() else shutil.which("shellcheck")
    if tool is None:
        pytest.skip("shellcheck is not installed; `make cloud` has it")
    done = subprocess.run([tool, *SCRIPTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_task_gives_all_that_the_scripts_read() -> None:
    machine = {"WORK", "HOME", "PYTHON", "STORAGE_EMULATOR_HOST"}  # what a machine has, or a test
    assert read_by("start.sh", "run.sh") - machine == set(TASK["envs"]) | set(TASK["secrets"])


def test_skypilot_and_batch_run_the_same_lines() -> None:
    lines = (CLOUD / "start.sh").read_text().split("\n", 1)[1]
    assert TASK["run"].strip() == lines.strip()
    assert lines in job()["taskGroups"][0]["taskSpec"]["runnables"][0]["script"]["text"]


def test_skypilot_parses_the_task() -> None:
    if find_spec("sky") is None:
        pytest.skip("skypilot is not installed; `make cloud` has it")
    import sky

    with pytest.raises(ValueError, match="BUCKET"):  # what has no default has to be given
        sky.Task.from_yaml_config(dict(TASK), env_overrides=list(URL.items()), secrets_overrides=[("GIT_TOKEN", "x")])
    task = sky.Task.from_yaml_config(
        dict(TASK), env_overrides=[*URL.items(), ("BUCKET", "my-bucket")], secrets_overrides=[("GIT_TOKEN", "x")]
    )
    assert task.envs["STUDY"] == "studies/demo.yaml"
    assert {name for resources in task.resources for name in resources.accelerators} == {"L4", "A100"}
    for resources in task.resources:
        assert resources.use_spot and str(resources.cloud) == "GCP" and resources.disk_size == 300
        assert resources.job_recovery["max_restarts_on_errors"] == 0


def job() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(bash(CLOUD / "batch.sh", "--print", **NAMES, **URL))
    return value


def test_batch_gives_all_that_the_scripts_read() -> None:
    environment = job()["taskGroups"][0]["taskSpec"]["environment"]
    given = environment["variables"] | environment["secretVariables"]
    assert read_by("start.sh", "run.sh") - {"WORK", "HOME", "PYTHON", "STORAGE_EMULATOR_HOST"} == set(given)
    assert given["GIT_TOKEN"] == "projects/my-project/secrets/facerep-git/versions/latest"
    assert given["GIT_REV"] == URL["GIT_REV"]


def test_batch_takes_the_job() -> None:
    try:
        from google.cloud import batch_v1
    except ImportError:
        pytest.skip("google-cloud-batch is not installed; `make cloud` has it")
    job_ = batch_v1.Job.from_json(json.dumps(job()))  # refuses names that Batch does not know
    task = job_.task_groups[0].task_spec
    assert (task.max_retry_count, list(task.lifecycle_policies[0].action_condition.exit_codes)) == (10, [50001])
    policy = job_.allocation_policy.instances[0].policy
    assert policy.provisioning_model == batch_v1.AllocationPolicy.ProvisioningModel.SPOT


def test_the_rights_are_on_the_bucket_and_the_secret() -> None:
    lines = bash(CLOUD / "bucket.sh", "--print", **NAMES).splitlines()
    granted = {
        (line.split("add-iam-policy-binding")[0].split()[1], line.split("--role ")[1].split()[0])
        for line in lines
        if "add-iam-policy-binding" in line
    }
    assert granted == {
        ("storage", "roles/storage.objectUser"),
        ("secrets", "roles/secretmanager.secretAccessor"),
        ("projects", "roles/batch.agentReporter"),
        ("projects", "roles/logging.logWriter"),
    }
    (created,) = (line for line in lines if "buckets create" in line)
    assert "--uniform-bucket-level-access --public-access-prevention" in created


@pytest.mark.parametrize(
    ("script", "env", "words"),
    [
        ("start.sh", URL, "start: STUDY is not set"),
        ("start.sh", URL | NAMES | {"GIT_URL": "/nonexistent.git"}, "start: GIT_URL=/nonexistent.git cannot be cloned"),
        ("run.sh", {}, "run: STUDY is not set; name a study's file"),
        ("run.sh", NAMES | {"STUDY": "studies/none.yaml"}, "run: STUDY=studies/none.yaml: there is no such file"),
        ("run.sh", NAMES | {"BUCKET": "gs://my-bucket"}, "run: BUCKET='gs://my-bucket': give a bucket's bare name"),
        ("run.sh", NAMES | {"JOBS": "0"}, "run: JOBS=0: give a number from 1 up."),
        ("batch.sh", {}, "batch: PROJECT is not set"),
        ("batch.sh", NAMES | URL | {"GIT_URL": "git@github.com:you/x.git"}, "give the https:// address"),
        ("bucket.sh", {}, "bucket: PROJECT is not set"),
    ],
)
def test_a_mistake_is_a_sentence(script: str, env: dict[str, str], words: str, tmp_path: Path) -> None:
    said = bash(CLOUD / script, ok=False, **(env | {"WORK": str(tmp_path / "work")}))
    assert words in said
    assert said.rstrip().endswith(".")


def test_a_commit_or_a_remote_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments], cwd=tmp_path, check=True)

    git("init", "-q", "-b", "main", "made")
    shutil.copytree(CLOUD, tmp_path / "made" / "cloud")
    (tmp_path / "made" / "studies").mkdir()
    (tmp_path / "made" / "studies" / "demo.yaml").write_text("name: demo\n")
    git("-C", "made", "add", ".")
    git("-C", "made", "commit", "-qm", "start")
    env = NAMES | {"GIT_URL": str(tmp_path / "made"), "GIT_REV": "b" * 40, "WORK": str(tmp_path / "work")}
    said = bash(CLOUD / "start.sh", ok=False, **env)
    assert f"start: GIT_REV={'b' * 40} is not in {tmp_path / 'made'}; push that commit first." in said
    assert "run: this clone has no remote origin" in bash(tmp_path / "made" / "cloud" / "run.sh", ok=False, **NAMES)
    git("-C", "made", "remote", "add", "origin", "/nonexistent.git")
    said = bash(tmp_path / "made" / "cloud" / "run.sh", ok=False, **NAMES)
    assert "run: origin (/nonexistent.git) takes no push, as git says above; results could not be brought home." in said
