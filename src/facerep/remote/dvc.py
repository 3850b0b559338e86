"""`dvc`, which also says on stderr what it throws away, objects whose content is not what they are named after, and when
the bucket has to be asked again.

    python -m facerep.remote.dvc pull        # as `dvc pull`

DVC itself mentions them with -v alone, among all else, and calls a fetch of which nothing is left a success.
"""

import logging
import sys

from dvc.cli import main

RETRY = "RETRY: "


def relay(logger: str, form: str, wanted: str = "") -> None:
    """All messages of a logger that have `wanted` in them go to stderr in this form."""
    log = logging.getLogger(logger)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(form))
    handler.addFilter(lambda record: wanted in record.getMessage())
    log.addHandler(handler)


if __name__ == "__main__":
    relay("dvc_data.hashfile.db", "%(levelname)s: %(message)s")
    relay("gcsfs", f"{RETRY}%(message)s", "retrying after exception")
    sys.exit(main(sys.argv[1:]))
