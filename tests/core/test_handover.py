"""A command handed to a process that forks for it, compared with the same command on its own: real processes and sockets."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from facerep.core.handover import WARM
from tests.support.repository import environment

INIT = """
import sys
from pathlib import Path
from facerep.core.handover import handed_over
if (status := handed_over(Path(__file__).resolve().parents[1])) is not None:
    sys.exit(status)
"""
STAGE = """
import os, signal, sys, time
print("out", os.getcwd(), os.environ.get("COLOR"), sys.stdin.read())
print("err", file=sys.stderr)
if os.environ.get("WAIT"):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to stop"))
    open("process", "w").write(str(os.getpid()))
    time.sleep(60)
open("server", "w").write(str("server" in sys.modules))
end = os.environ.get("END", "0")
sys.exit(int(end) if end.isdigit() else end)
"""
SERVER = """
import runpy, signal, sys
from pathlib import Path
from facerep.core.handover import serve
def do(stage, asker):
    runpy.run_module(stage, run_name="__main__", alter_sys=True)
sys.modules["server"] = sys
serve(Path(sys.argv[1]), Path(sys.argv[2]), {"stages.work"}, do)
"""
WORK = [sys.executable, "-m", "stages.work"]


def write_code(root: Path) -> Path:
    (root / "src").mkdir(parents=True)
    (root / "stages").mkdir()
    (root / "stages" / "__init__.py").write_text(INIT)
    (root / "stages" / "work.py").write_text(STAGE)
    return root


@pytest.fixture
def server(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    root = write_code(tmp_path / "served")
    command = [sys.executable, "-c", SERVER, str(tmp_path / "socket"), str(root)]
    process = subprocess.Popen(command, cwd=root, env=environment(), stdin=subprocess.PIPE)
    assert process.stdin is not None
    until = time.monotonic() + 60
    while not (tmp_path / "socket").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    yield process
    process.stdin.close()
    assert process.wait(60) == 0
    assert not (tmp_path / "socket").exists()


def ask(root: Path, socket: Path | None, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the stage; `socket` None: by itself."""
    (root / "server").unlink(missing_ok=True)
    env = environment(**({} if socket is None else {WARM: str(socket)}), **more)
    return subprocess.run(WORK, cwd=root, env=env, input="given", capture_output=True, text=True)


@pytest.mark.parametrize("end", ["0", "3", "a sentence"])
def test_a_command_is_the_same_by_itself_and_handed_over(
    server: subprocess.Popen[bytes], tmp_path: Path, end: str
) -> None:
    root = write_code(tmp_path / "mine")
    both = []
    for socket in (None, tmp_path / "socket"):
        done = ask(root, socket, END=end, COLOR="red")
        both.append((done.returncode, done.stdout, done.stderr))
        assert (root / "server").read_text() == str(socket is not None)
    assert both[0] == both[1]
    assert both[0][1] == f"out {root} red given\n"


def test_other_code_and_a_socket_where_nobody_is_leave_the_work_to_the_command(
    server: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    root = write_code(tmp_path / "mine")
    assert ask(root, tmp_path / "nobody").returncode == 0
    assert (root / "server").read_text() == "False"
    (root / "src" / "more.py").write_text("")
    assert ask(root, tmp_path / "socket").returncode == 0
    assert (root / "server").read_text() == "False"


def waiting(root: Path, socket: Path) -> tuple[subprocess.Popen[str], int]:
    """The stage that waits, and the fork that does it."""
    env = environment(**{WARM: str(socket)}, WAIT="1")
    pipe = subprocess.PIPE
    process = subprocess.Popen(WORK, cwd=root, env=env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)
    until = time.monotonic() + 60
    while not (root / "process").exists() or not (root / "process").read_text():
        assert time.monotonic() < until
        time.sleep(0.02)
    return process, int((root / "process").read_text())


def test_signals_reach_the_fork(server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    process, fork = waiting(write_code(tmp_path / "mine"), tmp_path / "socket")
    assert fork != process.pid
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, "err\ntold to stop\n")


def test_who_kills_one_kills_both(server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    process, fork = waiting(write_code(tmp_path / "mine"), tmp_path / "socket")
    process.kill()
    process.wait()
    until = time.monotonic() + 30
    while Path(f"/proc/{fork}/stat").exists() and Path(f"/proc/{fork}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < until
        time.sleep(0.05)
    (tmp_path / "mine" / "process").unlink()
    process, fork = waiting(tmp_path / "mine", tmp_path / "socket")
    os.kill(fork, signal.SIGKILL)
    assert process.wait(30) == 137


def test_a_fork_outlives_the_server_which_waits_for_it(server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    process, _ = waiting(write_code(tmp_path / "mine"), tmp_path / "socket")
    assert server.stdin is not None
    server.stdin.close()
    with pytest.raises(subprocess.TimeoutExpired):
        server.wait(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 1
    assert server.wait(60) == 0


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a study asks for it on Linux alone")
