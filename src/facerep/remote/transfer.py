"""`dvc push`, `pull` and `fetch` that say in a sentence what is wrong with the bucket, within half a minute.

DVC is asked to do the work, and does it as ever: what has been transferred is kept, and the same command goes on. Around it
the bucket is asked one question with a time limit, before, and again whenever DVC seems to wait: DVC itself tries for
minutes and ends in a traceback. After a push the bucket's objects are compared with their names, and what is wrong or
missing is uploaded, with --run-cache also what the runs have made.
"""

import re
import subprocess
import sys
import threading
import time
from typing import Any

import psutil

from facerep.core.buckets import PATIENCE, ask_remote, forbidden, why, within
from facerep.core.errors import FacerepError
from facerep.remote.dvc import RETRY
from facerep.remote.mend import Remote, find_remote, look, shown

IDLE = 6.0  # seconds without work after which DVC seems to wait, and the bucket is asked again
LITTLE = 32_768  # bytes over the network that are a sign of work: more than a few questions and refusals take
WRONG = "damaged or missing in the bucket"
MEND = (
    "run `facerep remote push` in a repository that has it whole, then this again; should it come damaged "
    "once more, delete it in the bucket before that push"
)
DAMAGED = re.compile(r"corrupted cache file '.*\W([0-9a-f]{2})\W([0-9a-f]{30}(?:\.dir)?)'")
MISSING = re.compile(r"failed to transfer '([0-9a-f]{32}(?:\.dir)?)' - b/")  # a path alone: gcsfs's "not found"


def look_at(name: str | None) -> None:
    """Ask the remote called `name` (None: the default) whether it answers and whether all that it holds is whole.

    Raises FacerepError with what to do where it is not so.
    """
    remote = find_remote(name)
    check(remote)
    if wrong := look_over(remote):
        raise FacerepError(f"{remote.url}: {WRONG}: {shown(wrong)}; {MEND}.")


def check(remote: Remote) -> None:
    """Ask the remote for one listing. Raises FacerepError with what to do when it does not answer well.

    Remotes that are not in Google Cloud Storage are not asked.
    """
    if remote.in_google_cloud:
        ask_remote(remote.url, remote.settings)


def look_over(remote: Remote, runs: bool = False) -> list[str]:
    """The names of what is wrong or missing in the bucket; none, and a line on stderr, where its listing takes too long."""
    if not remote.in_google_cloud:
        return []
    try:
        return within(PATIENCE, lambda: look(remote, runs))
    except Exception as error:
        print(f"The bucket's objects were not compared with their names ({why(error)}).", file=sys.stderr)
        return []


def transfer(command: str, name: str | None, more: list[str]) -> None:
    """Have DVC push, pull or fetch; `more` are DVC's own arguments.

    Raises FacerepError when it fails, or when the bucket stops answering before or on the way.
    """
    remote = find_remote(name)
    check(remote)
    named = ["-r", name] if name else []
    runs = [option for option in more if option == "--run-cache"]
    failed, said = _run(["facerep.remote.dvc", command, *named, *more], remote)
    wrong: list[str] = []
    if command != "push":  # DVC throws away what came damaged, and calls a fetch a success all the same
        wrong = sorted({f"{a}{b}" for line in said for a, b in DAMAGED.findall(line)})
        wrong += sorted({oid for line in said for oid in MISSING.findall(line)} - {*wrong})
    if command == "push" and failed is None and look_over(remote, bool(runs)):
        failed, _ = _run(["facerep.remote.mend", *named, *runs], remote)
    if failed is None and not wrong:
        return
    check(remote)
    if wrong:
        raise FacerepError(f"{remote.url}: {WRONG}: {shown(wrong)}; {MEND}.")
    if failed and "Forbidden" in failed:
        raise FacerepError(f"{remote.url}: {forbidden(remote.url, 'write to' if command == 'push' else 'read')}.")
    if failed and "unsaved files" in failed:
        raise FacerepError(f"dvc {command} stopped ({failed}); keep a copy of what you have changed, or add --force.")
    mend = "" if command == "push" else f" Should it fail once more, something is {WRONG}: {MEND}."
    raise FacerepError(
        f"dvc {command} failed ({failed}); run the same command again, what has been transferred is kept.{mend}"
    )


def _run(module: list[str], remote: Remote) -> tuple[str | None, list[str]]:
    """Run a Python module under watch: what it said went wrong (None when nothing), and all that it said on stderr."""
    process = subprocess.Popen([sys.executable, "-m", *module], stderr=subprocess.PIPE, text=True)
    said: list[str] = []
    retries: list[float] = []
    reader = threading.Thread(target=_relay, args=(process.stderr, said, retries), daemon=True)
    reader.start()
    try:
        _watch(process, remote, retries)
    except BaseException:
        _end(process)
        raise
    reader.join(5)
    if process.returncode == 0:
        return None, said
    first = next((number for number, text in enumerate(said) if text.startswith("ERROR: ")), None)
    if first is None:
        return f"exit code {process.returncode}", said
    lines = [said[first].removeprefix("ERROR: ").removeprefix("unexpected error - ")]
    for text in said[first + 1 :]:  # such as the names of files, under a line that ends with a colon
        if text.startswith(("ERROR: ", "WARNING: ")):
            break
        lines.append(text)
    return " ".join(" ".join(lines).split())[:400].rstrip(":. "), said


def _relay(lines: Any, said: list[str], retries: list[float]) -> None:
    """Keep what DVC says on stderr and when it had to try again, and show its progress where somebody watches."""
    for line in lines:
        if line.startswith(RETRY):
            retries.append(time.monotonic())
        elif "%|" not in line:
            said.append(line)
        elif sys.stderr.isatty():
            sys.stderr.write(f"\r{line.rstrip()}")
            sys.stderr.flush()


def _watch(dvc: "subprocess.Popen[str]", remote: Remote, retries: list[float]) -> None:
    """Wait for DVC to end; whenever it has done nothing for IDLE seconds ask the bucket what is wrong.

    What goes over the network counts as work, by whatever program of this machine, since a slow line leaves DVC idle;
    not while DVC tries again and again.
    """
    (worked, passed), since = _work(dvc), time.monotonic()
    idle_times = 0
    while dvc.poll() is None:
        time.sleep(0.2)
        now, passed_now = _work(dvc)
        tries_again = bool(retries) and time.monotonic() - retries[-1] < 4 * IDLE  # the pauses between get longer
        if now - worked > 0.2 or (passed_now - passed > LITTLE and not tries_again):
            worked, passed, since, idle_times = now, passed_now, time.monotonic(), 0
        elif time.monotonic() - since > IDLE:
            check(remote)
            idle_times, since = idle_times + 1, time.monotonic()
            if idle_times == 3:
                raise FacerepError(
                    "the transfer stands still although the bucket answers; run the same command again, what has been "
                    "transferred is kept."
                )


def _work(dvc: "subprocess.Popen[str]") -> tuple[float, int]:
    """Seconds of processor time so far, and bytes that went over the network."""
    try:
        times = psutil.Process(dvc.pid).cpu_times()
        passed = psutil.net_io_counters() or (0, 0)  # sent, received, and more
    except psutil.NoSuchProcess:
        return 0.0, 0
    return float(times.user + times.system), sum(passed[:2])


def _end(dvc: "subprocess.Popen[str]") -> None:
    dvc.terminate()
    try:
        dvc.wait(5)
    except subprocess.TimeoutExpired:
        dvc.kill()
        dvc.wait()
