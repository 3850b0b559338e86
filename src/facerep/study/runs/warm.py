"""A process beside a study that has imported all stages, of the code that is committed, and forks for each run's."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from facerep.core.handover import WARM
from facerep.study.runs import queue


def warm_stages() -> None:
    """From now on, the stages of what this process starts are done by forks of one process, where they can be.

    That process has a copy of the code as it is committed, so that nobody edits what it runs. A stage of other code, a
    launcher's processes, those on a GPU and all that starts after this process has ended do their work themselves. It is
    started once, and not where the environment names another one, or "".
    """
    if sys.platform != "linux" or WARM in os.environ:  # elsewhere libraries do not survive a fork
        return
    root = Path(tempfile.mkdtemp(prefix="facerep-warm-"))  # which that process deletes
    for name, content in queue.files_of("HEAD", "src", "stages").items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    door = root / "socket"
    path = os.pathsep.join([str(root / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    subprocess.Popen(
        [sys.executable, "-m", "stages.warm", str(door)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,  # ends with this process, and so does the other one
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.environ[WARM] = str(door)
