"""Run the command line as `python -m gradreach`."""

from __future__ import annotations

from gradreach.cli import main

if __name__ == "__main__":
    main()
