"""What the command line costs: medians of interleaved pairs against ``python -c pass``, in one run.

``python benchmarks/cli.py [--pairs N]``. The first column is the command's own time, the second that of the empty
program right before or after it, so that a machine that is busy shows in both.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from overhead import pairs, timed

PROGRAM = str(Path(sys.executable).with_name("deploy-guard"))
COMMANDS = {
    "deploy-guard --help": (["--help"], 150),
    "deploy-guard env": (["env", "--env", "dev"], 400),
    "deploy-guard status": (["status"], None),
    "deploy-guard init (kept)": (["init"], None),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15)
    number = parser.parse_args().pairs
    os.environ.update(SERVICE_URL="http://127.0.0.1:1", TOKEN="only-a-demonstration")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for what, (args, limit) in COMMANDS.items():
            own, empty, _ = pairs(
                number,
                lambda args=args: timed([PROGRAM, *args], folder),
                lambda: timed([sys.executable, "-c", "pass"], folder),
            )
            reach = f"   to reach {limit} ms" if limit else ""
            print(f"{what:<26} {1000 * own:4.0f} ms   python -c pass {1000 * empty:3.0f} ms{reach}")


if __name__ == "__main__":
    main()
