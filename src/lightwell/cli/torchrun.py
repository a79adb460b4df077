"""The launcher of torch as it is, but for the traceback that it shows when it is told to stop."""

from __future__ import annotations

import sys


def main() -> None:
    """Run torchrun; exit with 1 where a signal stopped it, and its processes with it."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.run import main as torchrun

    try:
        torchrun()
    except SignalException:
        sys.exit(1)


if __name__ == "__main__":
    main()
