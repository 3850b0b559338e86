"""A stage handed to a process that has imported everything already, and forks: a start of milliseconds, not seconds.

`python -m stages.finetune` asks the process behind the socket that FACEREP_WARM names, where there is one: it sends what a
process is started with, forwards signals, and ends as the fork does. Whatever is in the way, it does its work itself.
"""

import hashlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

WARM = "FACEREP_WARM"
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
KILLED = 128 + signal.SIGKILL  # what a shell says of it


def code_below(root: Path) -> str:
    """sha256, hex, of all code below `root` that a stage runs: names and bytes."""
    files = [
        path for folder in ("src", "stages") for path in (root / folder).rglob("*") if path.suffix in (".py", ".c")
    ]
    found = hashlib.sha256()
    for name, path in sorted((path.relative_to(root).as_posix(), path) for path in files):
        found.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


def handed_over(root: Path) -> int | None:
    """The exit code of this very command, done by another process; None where none does it.

    Args:
        root: the folder above the `stages` and `src` that this process would run.
    """
    place, command = os.environ.get(WARM), sys.orig_argv[1:]
    if not place or len(command) != 2 or command[0] != "-m":  # a launcher's processes are none of ours
        return None
    with socket.socket(socket.AF_UNIX) as link:
        try:
            link.connect(place)
            asked = {"module": command[1], "code": code_below(root), "folder": os.getcwd(), "pid": os.getpid()}  # noqa: PTH109
            socket.send_fds(link, [b"f"], [0, 1, 2])
            link.sendall(json.dumps(asked | {"environment": dict(os.environ)}).encode() + b"\n")
            answers = link.makefile("rb")
            process = int(answers.readline() or 0)
        except (OSError, ValueError):
            return None
        if not process:
            return None

        def forward(number: int, _: FrameType | None) -> None:
            with suppress(ProcessLookupError):
                os.kill(process, number)

        for number in FORWARDED:
            signal.signal(number, forward)
        return int(answers.readline() or KILLED)


def serve(place: Path, root: Path, stages: set[str], do: Callable[[str, int], None]) -> None:
    """Fork for each stage that asks at `place`, until standard input ends; then wait for the forks.

    Args:
        root: as in `handed_over`, of this process: who runs other code is refused.
        stages: the modules that are done.
        do: does the stage of this name, in a process that looks like the one that asked, whose id it is given too.
    """
    code = code_below(root)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(place))
        door.listen(64)
        threading.Thread(target=_until_the_end, args=[door], daemon=True).start()
        children: set[int] = set()
        while True:
            try:
                link, _ = door.accept()
            except OSError:  # shut
                break
            children -= {child for child in children if os.waitpid(child, os.WNOHANG)[0]}
            child = os.fork()
            if not child:
                door.close()
                _answer(link, code, stages, do)  # never comes back
            children.add(child)
            link.close()
    place.unlink(missing_ok=True)
    for child in children:
        os.waitpid(child, 0)


def _until_the_end(door: socket.socket) -> None:
    """Shut the door when whoever started this process is no more."""
    while os.read(0, 1):
        pass
    door.shutdown(socket.SHUT_RDWR)


def _answer(link: socket.socket, code: str, stages: set[str], do: Callable[[str, int], None]) -> None:
    """In a fork: become the process that asks, and do its work."""
    status: Any = 1
    try:
        _, files, _, _ = socket.recv_fds(link, 1, 3)
        asked = json.loads(link.makefile("rb").readline())
        if asked["code"] != code or asked["module"] not in stages:
            os._exit(0)
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(asked["folder"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        os.environ.pop(WARM, None)
        threading.Thread(target=_die_with, args=[link], daemon=True).start()
        link.sendall(f"{os.getpid()}\n".encode())
        status = _status(do, asked["module"], asked["pid"])
        link.sendall(f"{status}\n".encode())
    finally:
        os._exit(status)


def _status(do: Callable[[str, int], None], module: str, process: int) -> int:
    """Do it, and say what Python would exit with."""
    try:
        do(module, process)
        status = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    return status


def _die_with(link: socket.socket) -> None:
    """Be killed when the process that asked is: it says nothing more until then."""
    with suppress(OSError):
        while link.recv(1):
            pass
    os.kill(os.getpid(), signal.SIGKILL)
