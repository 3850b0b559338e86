"""`dvc`, which also says on stderr what it throws away: objects whose content is not what they are named after.

    python -m facerep.candid_dvc pull        # as `dvc pull`

DVC itself mentions them with -v alone, among all else, and calls a fetch of which nothing is left a success.
"""

import logging
import sys

from dvc.cli import main

if __name__ == "__main__":
    log = logging.getLogger("dvc_data.hashfile.db")
    log.setLevel(logging.DEBUG)
    log.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    log.addHandler(handler)
    sys.exit(main(sys.argv[1:]))
