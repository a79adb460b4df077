"""`python -m lightwell` is the `lightwell` command."""

from __future__ import annotations

from lightwell.cli.app import main

if __name__ == "__main__":
    main()
