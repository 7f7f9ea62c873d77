"""`python -m stook` is the `stook` command. It must never hold anything else."""

from __future__ import annotations

from stook.edge.cli.main import main

if __name__ == "__main__":
    main()
