"""The command ``deploy-guard`` as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = Path(sys.executable).with_name("deploy-guard")


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str
    cwd: Path

    @property
    def json(self) -> dict[str, Any]:
        """What stands on stdout, which must be one JSON document."""
        data: dict[str, Any] = json.loads(self.out)
        return data

    def verdict(self, env: str) -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.cwd / "reports" / env / "verdict.json").read_text())
        return data


@dataclass
class Command:
    """Runs commands in a folder, with an environment that holds nothing of the CI's own."""

    cwd: Path

    def environ(self, **more: str) -> dict[str, str]:
        hidden = ("PYTEST_", "DEPLOY_GUARD_", "CI", "JENKINS", "GITHUB_", "ENV", "VERSION", "NO_COLOR", "FORCE_COLOR")
        return {**{k: v for k, v in os.environ.items() if not k.startswith(hidden)}, **more}

    def __call__(self, *args: str, **more: str) -> Done:
        done = subprocess.run(
            [PROGRAM, *args], cwd=self.cwd, env=self.environ(**more), capture_output=True, text=True, timeout=60
        )
        return Done(done.returncode, done.stdout, done.stderr, self.cwd)

    def start(self, *args: str, **more: str) -> subprocess.Popen[bytes]:
        """Start one without waiting for it."""
        null = subprocess.DEVNULL
        return subprocess.Popen([PROGRAM, *args], cwd=self.cwd, env=self.environ(**more), stdout=null, stderr=null)

    @staticmethod
    def until(path: Path, timeout: float = 30) -> None:
        """Wait until a file is there."""
        end = time.monotonic() + timeout
        while not path.exists():
            assert time.monotonic() < end, f"{path} did not appear"
            time.sleep(0.02)
