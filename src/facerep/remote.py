"""`dvc push`, `pull` and `fetch` that say in a sentence what is wrong with the bucket, within half a minute.

    python -m facerep.remote check
    python -m facerep.remote push            # and pull, fetch; more arguments are DVC's own

DVC is asked to do the work, and does it as ever: what has been transferred is kept, and the same command goes on. Around it
the bucket is asked one question with a time limit, before, and again whenever DVC seems to wait: DVC itself tries for
minutes and ends in a traceback.
"""

import argparse
import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import psutil
from dvc.exceptions import DvcException
from dvc.repo import Repo

from facerep.errors import FacerepError

PATIENCE = 12.0  # seconds that the bucket may take to answer one question
IDLE = 6.0  # seconds without work after which DVC seems to wait, and the bucket is asked again
DAMAGED = (
    " Should it fail once more, an object in the bucket is damaged: `dvc pull -v` calls it corrupted; delete it there, and "
    "push again from a repository that has it."
)


def main() -> None:
    """Run the command line; a FacerepError becomes its sentence and exit code 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("check", "push", "pull", "fetch"))
    parser.add_argument("--remote", "-r", help="another than the default")
    options, more = parser.parse_known_args()
    # else gcsfs waits a minute for a service that an emulator lacks; DVC, started from here, has it from here
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    warnings.simplefilter("ignore")  # gcsfs's, that no project is named: none is needed
    try:
        check(options.remote)
        if options.command == "check":
            print("The remote answers.")
        else:
            transfer(options.command, options.remote, more)
    except FacerepError as error:
        sys.exit(f"{options.command}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{options.command}: stopped by Ctrl-C; run the same command again, it goes on.")


def check(remote: str | None = None) -> None:
    """Ask the remote for one listing. Raises FacerepError with what to do when it does not answer well.

    Remotes that are not in Google Cloud Storage are not asked.
    """
    url, settings = _remote(remote)
    if not url.startswith("gs://"):
        return
    bucket = url.removeprefix("gs://").partition("/")[0]
    failed: list[BaseException] = []
    done = threading.Event()

    def ask() -> None:
        try:
            _list(bucket, settings)
        except BaseException as error:
            failed.append(error)
        done.set()

    threading.Thread(target=ask, daemon=True).start()  # a thread, since not every way to hang heeds a time limit
    where = settings.get("endpointurl") or "Google Cloud Storage"
    if not done.wait(PATIENCE):
        raise FacerepError(
            f"{url}: {where} does not answer within {PATIENCE:.0f} s; look after the network and run the same command again."
        )
    if failed:
        raise FacerepError(_sentence(url, bucket, where, failed[0])) from None


def _remote(name: str | None) -> tuple[str, dict[str, Any]]:
    """URL and settings of a remote, as DVC's configuration has them."""
    try:
        with Repo() as repo:
            name = name or repo.config["core"].get("remote")
            if name is None:
                raise FacerepError(
                    "no default remote; set one with `dvc remote add --default storage gs://<bucket>/<prefix>`."
                )
            if name not in repo.config["remote"]:
                known = ", ".join(sorted(repo.config["remote"])) or "none"
                raise FacerepError(f"remote {name!r} is not configured (there are: {known}); see `dvc remote list`.")
            settings = dict(repo.config["remote"][name])
    except DvcException as error:
        raise FacerepError(f"{error}.") from None
    return str(settings["url"]), settings


def _list(bucket: str, settings: dict[str, Any]) -> None:
    """One question."""
    import gcsfs  # type: ignore[import-untyped]

    token = "anon" if settings.get("allow_anonymous_login") else settings.get("credentialpath")
    if token not in (None, "anon") and not Path(str(token)).is_file():
        raise FileNotFoundError(f"credentials:{token}")
    fs = gcsfs.GCSFileSystem(
        token=token,
        project=settings.get("projectname"),
        endpoint_url=settings.get("endpointurl"),
        skip_instance_cache=True,
    )
    fs.call("GET", "b/{}/o", bucket, maxResults=1, json_out=True)


def _sentence(url: str, bucket: str, where: str, error: BaseException) -> str:
    """What went wrong and what to do about it."""
    kind, text = type(error).__name__, " ".join(str(error).split())
    code = str(getattr(error, "code", ""))
    again = "and run the same command again; what has been transferred is kept"
    if text.startswith("credentials:"):
        file = text.removeprefix("credentials:")
        return f"{url}: the credentials file {file} is not there; correct credentialpath with `dvc remote modify`."
    if (
        kind in ("DefaultCredentialsError", "RefreshError")
        or code == "401"
        or "Anonymous caller" in text
        or "Invalid Credentials" in text
    ):
        return f"{url}: no credentials that hold, or they have expired; run `gcloud auth application-default login` {again}."
    if isinstance(error, FileNotFoundError) or code == "404":
        return (
            f"{url}: there is no bucket {bucket} at {where}; create it with `gcloud storage buckets create "
            f"gs://{bucket}`, or name another with `dvc remote modify storage url`."
        )
    if code == "403" or isinstance(error, PermissionError):
        return f"{url}: these credentials may not read the bucket; ask for the role Storage Object User on {bucket} {again}."
    if code in ("429", "500", "502", "503", "504") or "429" in text or "503" in text:
        return f"{url}: {where} is busy or out of order ({text[:80]}); wait a minute {again}."
    return f"{url}: {where} cannot be reached ({text[:120] or kind}); look after the network {again}."


def transfer(command: str, remote: str | None, more: list[str]) -> None:
    """Have DVC push, pull or fetch. Raises FacerepError when it fails, or when the bucket stops answering on the way."""
    line = [sys.executable, "-m", "dvc", command, *(["-r", remote] if remote else []), *more]
    dvc = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    said: list[str] = []
    reader = threading.Thread(target=_relay, args=(dvc.stderr, said), daemon=True)
    reader.start()
    try:
        _watch(dvc, remote)
    except BaseException:
        _end(dvc)
        raise
    reader.join(5)
    if dvc.returncode == 0:
        return
    check(remote)
    errors = [text.removeprefix("ERROR: ").strip() for text in said if text.startswith("ERROR: ")]
    why = errors[0].removeprefix("unexpected error - ")[:300].rstrip(":. ") if errors else f"exit code {dvc.returncode}"
    damaged = "" if command == "push" else DAMAGED
    raise FacerepError(
        f"dvc {command} failed ({why}); run the same command again, what has been transferred is kept.{damaged}"
    )


def _relay(lines: Any, said: list[str]) -> None:
    """Keep what DVC says on stderr, and show its progress where somebody watches."""
    for line in lines:
        if "%|" not in line:
            said.append(line)
        elif sys.stderr.isatty():
            sys.stderr.write(f"\r{line.rstrip()}")
            sys.stderr.flush()


def _watch(dvc: "subprocess.Popen[str]", remote: str | None) -> None:
    """Wait for DVC to end; whenever it has done nothing for IDLE seconds ask the bucket what is wrong."""
    worked, since = _work(dvc), time.monotonic()
    idle_times = 0
    while dvc.poll() is None:
        time.sleep(0.2)
        now = _work(dvc)
        if now - worked > 0.2:
            worked, since, idle_times = now, time.monotonic(), 0
        elif time.monotonic() - since > IDLE:
            check(remote)
            idle_times, since = idle_times + 1, time.monotonic()
            if idle_times == 3:
                raise FacerepError(
                    "the transfer stands still although the bucket answers; run the same command again, what has been "
                    "transferred is kept."
                )


def _work(dvc: "subprocess.Popen[str]") -> float:
    """Seconds of processor time so far: a transfer that goes on takes some."""
    try:
        times = psutil.Process(dvc.pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _end(dvc: "subprocess.Popen[str]") -> None:
    dvc.terminate()
    try:
        dvc.wait(5)
    except subprocess.TimeoutExpired:
        dvc.kill()
        dvc.wait()


if __name__ == "__main__":
    main()
