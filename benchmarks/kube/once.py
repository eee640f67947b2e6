"""Steps of the Kubernetes driver in a process of its own; prints when each of them began and ended.

Reads one JSON document: ``table``, ``folder``, ``steps`` and ``version``. A step that fails is told, and ends what goes
forward; ``rollback`` and ``verify`` are done all the same when they are asked for.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy_guard.deadline import Deadline
from deploy_guard.drivers import make_driver
from deploy_guard.drivers.base import Context, Release
from deploy_guard.errors import DeployGuardError

BACK = ("rollback", "verify")


def main() -> None:
    asked = json.load(sys.stdin)
    environ = {**os.environ, "VERSION": asked["version"]}
    driver: Any = make_driver("kubernetes", asked["table"], Context("bench", "prod", Path(asked["folder"]), environ))
    plan: Any = None
    snapshot: Any = None

    def planned() -> None:
        nonlocal plan
        plan = driver.plan(Release(asked["version"]))

    def taken() -> None:
        nonlocal snapshot
        snapshot = driver.snapshot(plan)

    acts: dict[str, Callable[[], None]] = {
        "plan": planned,
        "snapshot": taken,
        "apply": lambda: driver.apply(plan),
        "wait": lambda: driver.wait(plan, Deadline.after(300)),
        "rollback": lambda: driver.rollback(snapshot, Deadline.after(300)),
        "verify": lambda: driver.verify(snapshot, Deadline.after(300)),
    }
    steps: dict[str, tuple[float, float]] = {}
    failed = error = ""
    with contextlib.redirect_stdout(sys.stderr):
        for name in asked["steps"]:
            if failed and name not in BACK:
                continue
            began = time.monotonic()
            try:
                acts[name]()
            except DeployGuardError as raised:
                failed, error = name, f"{type(raised).__name__}: {raised}"
            steps[name] = began, time.monotonic()
        driver.close()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"steps": steps, "failed": failed, "error": error, "memory": memory}))


if __name__ == "__main__":
    main()
