"""The page on the command line: every command in it, in order, as printed."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from cli import Command
from gitrepo import Sandbox

PAGE = Path(__file__).resolve().parents[2] / "docs/command-line.md"


def test_every_command_of_the_page_works_in_a_new_repository(sandbox: Sandbox) -> None:
    command = Command(sandbox.path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    lines = re.findall(r"^\$ (.+)$", PAGE.read_text(), re.MULTILINE)
    assert len(lines) > 10
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    host = "[env.dev.host]\ndisk = { warn = 99, fail = 100 }\nmemory = { warn = 99, fail = 100 }\n"
    environ = command.environ(PATH=path, SERVICE_URL=f"http://127.0.0.1:{port}", API_KEY="only-a-demonstration")
    shown = []
    try:
        for line in lines:
            done = subprocess.run(
                ["bash", "-euc", line.replace("8765", port)],
                cwd=command.cwd,
                env=environ,
                capture_output=True,
                text=True,
                timeout=60,
            )
            shown.append(line)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            if line.endswith("init"):
                file = command.cwd / "deploy-guard.toml"
                text = file.read_text().replace("8765", port)
                file.write_text(re.sub(r"\[env\.dev\.host\].*?\n\n", f"{host}\n", text, flags=re.DOTALL))
    finally:
        command("rollback", "--env", "dev")
    assert shown == lines
