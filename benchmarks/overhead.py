"""What deploy-guard costs: medians of interleaved pairs, printed as ratios.

``python benchmarks/overhead.py [--pairs N] [--large]``. Each pair runs the same folder with and without the plugin, one
right after the other, in turn, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]


def timed(argv: list[str], folder: Path, codes: tuple[int, ...] = (0,)) -> float:
    environ = {**os.environ, "VERSION": "v1.0.0", "PYTHONDONTWRITEBYTECODE": ""}
    started = time.perf_counter()
    done = subprocess.run(argv, cwd=folder, env=environ, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode not in codes:
        sys.exit(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return seconds


def pairs(number: int, one: Callable[[], float], other: Callable[[], float]) -> tuple[float, float, float]:
    """Return the medians of both and the median of the ratios."""
    one(), other()
    firsts, seconds = [], []
    for turn in range(number):
        order = [(one, firsts), (other, seconds)]
        for run, into in order if turn % 2 else reversed(order):
            into.append(run())
    ratio = statistics.median(a / b for a, b in zip(firsts, seconds, strict=True))
    return statistics.median(firsts), statistics.median(seconds), ratio


def plain_session(folder: Path, number: int) -> None:
    (folder / "test_plain.py").write_text("".join(f"def test_{n}(): pass\n" for n in range(20)))
    with_it, without, ratio = pairs(
        number,
        lambda: timed([*PYTEST, "test_plain.py"], folder),
        lambda: timed([*PYTEST, "-p", "no:deploy_guard", "test_plain.py"], folder),
    )
    print(f"plain session      with {1000 * with_it:.0f} ms, without {1000 * without:.0f} ms, ratio {ratio:.3f}")


def bare_environment(folder: Path, number: int) -> None:
    """The same session where neither deploy-guard nor its dependencies are installed."""
    bare = folder / "bare"
    venv.create(bare, with_pip=True)
    subprocess.run([bare / "bin/pip", "install", "-q", "--disable-pip-version-check", "pytest"], check=True)
    argv = [str(bare / "bin/python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_plain.py"]
    with_it, without, ratio = pairs(
        number, lambda: timed([*PYTEST, "test_plain.py"], folder), lambda: timed(argv, folder)
    )
    print(
        f"and its dependencies: here {1000 * with_it:.0f} ms, pytest alone {1000 * without:.0f} ms, ratio {ratio:.3f}"
    )


def many_gates(folder: Path, gates: int, number: int) -> None:
    root = folder / f"many{gates}"
    (root / "gates").mkdir(parents=True)
    (root / "deploy-guard.toml").write_text('name = "many"\n')
    for start in range(0, gates, 500):
        text = "".join(f"def test_{n}(): pass\n" for n in range(start, min(start + 500, gates)))
        (root / "gates" / f"test_{start}.py").write_text(text)
    reports = ["--junitxml=x/junit.xml", "--html=x/report.html", "--self-contained-html"]
    with_it, without, ratio = pairs(
        number,
        lambda: timed([*PYTEST, "--deploy-env=dev", "--no-deploy", "gates"], root),
        lambda: timed([*PYTEST, "-p", "no:deploy_guard", *reports, "gates"], root),
    )
    print(f"{gates:>6} gates       with {with_it:.2f} s, without {without:.2f} s, ratio {ratio:.3f}, {memory(root)}")


def memory(root: Path) -> str:
    """Peak memory of the largest process of one run, with and without the plugin."""
    code = (
        "import resource, subprocess, sys\nsubprocess.run(sys.argv[1:], capture_output=True)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    found = []
    for options in (
        ["--deploy-env=dev", "--no-deploy"],
        ["-p", "no:deploy_guard", "--html=x/r.html", "--junitxml=x/j.xml"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *PYTEST, *options, "gates"], cwd=root, capture_output=True, text=True
        )
        found.append(int(done.stdout) / 1024)
    return f"peak {found[0]:.0f} MB and {found[1]:.0f} MB"


def to_the_first_act(folder: Path, number: int) -> None:
    """From the last gate's end to the driver's first act, with the local driver."""
    root = folder / "act"
    (root / "gates").mkdir(parents=True)
    (root / "app").mkdir()
    (root / "app/file").write_text("x")
    (root / "deploy-guard.toml").write_text(
        '[env.stage]\ndriver = "local"\n[env.stage.local]\nroot = "dep"\nartifact = "app"\n'
    )
    (root / "gates/test_a.py").write_text(
        "import time, pathlib\ndef test_a(): pathlib.Path('ended').write_text(repr(time.time()))\n"
    )
    waits = []
    for turn in range(number + 1):
        (root / "app/file").write_text(str(turn))
        timed([*PYTEST, "--deploy-env=stage", "gates"], root)
        events = [json.loads(line) for line in (root / "reports/stage/audit.jsonl").read_text().splitlines()]
        first = next(e for e in events if e["event"] == "plan" and e["state"] == "intent")
        acted = datetime.fromisoformat(first["time"]).timestamp()
        waits.append(acted - float((root / "ended").read_text()))
    print(f"last gate to the driver's first act: median {1000 * statistics.median(waits[1:]):.0f} ms (clock of 1 ms)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--large", action="store_true", help="10,000 gates too, which takes minutes")
    parser.add_argument("--bare", action="store_true", help="compare with an environment without the dependencies too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain_session(folder, 3 * options.pairs)
        if options.bare:
            bare_environment(folder, options.pairs)
        to_the_first_act(folder, options.pairs)
        many_gates(folder, 1000, options.pairs)
        if options.large:
            many_gates(folder, 10_000, 3)
    print(
        f"python {sys.version.split()[0]}, {os.cpu_count()} cores, peak of all children "
        f"{resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024} MB"
    )


if __name__ == "__main__":
    main()
