"""The launcher of torch as it is, but for the traceback that it shows when it is told to stop.

And but for what it says of a process that died when all was done and said: of that there is nothing to say.
"""

from __future__ import annotations

import logging
import os
import sys

from lightwell.cli.processes import is_explained, is_over


def main() -> None:
    """Run torchrun; exit with 1 where a signal stopped it, and its processes with it."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    def is_told(record: logging.LogRecord) -> bool:
        return record.levelno >= level and not is_over() and not is_explained()

    # With torch 2.13 the logger of what torchrun sends its processes shows warnings at any LOGLEVEL.
    level = logging.getLevelNamesMapping().get(os.environ.get("LOGLEVEL", "").upper(), logging.WARNING)
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("torch.distributed.")]:
        logging.getLogger(name).addFilter(is_told)
    try:
        torchrun()
    except SignalException:
        sys.exit(1)
    except ChildFailedError:
        if not is_over():
            raise


if __name__ == "__main__":
    main()
