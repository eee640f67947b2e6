"""The log on standard error: the events of the audit trail, for people or for machines."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from typing import Any

from conftest import Project


def run(project: Project, *options: str, **env: str) -> tuple[str, str]:
    done = subprocess.run(
        project.command("gates", *options), cwd=project.root, env=project.environ(**env), capture_output=True, text=True
    )
    return done.stdout, done.stderr


def audit(project: Project) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (project.root / "reports/stage/audit.jsonl").read_text().splitlines()]


def test_json_lines_are_those_of_the_audit_trail_and_never_on_stdout(project: Project) -> None:
    out, err = run(project, "--deploy-log-format=json")
    assert [json.loads(line) for line in err.splitlines()] == audit(project)
    assert '"event"' not in out
    assert "SHIPPED" in out


def test_every_event_says_run_environment_and_version_and_every_end_how_long_it_took(project: Project) -> None:
    project.write("gates/test_p.py", "from deploy_guard import post_check\n@post_check('warn')\ndef test_p(): pass\n")
    run(project)
    events = audit(project)
    assert all(event["run"] and event["env"] == "stage" and event["version"] == "v1.0.0" for event in events)
    ended = [event for event in events if event.get("state") in ("passed", "failed") or event["event"] == "gate"]
    assert {event["event"] for event in ended} >= {"gate", "plan", "snapshot", "apply", "wait", "check"}
    assert all(isinstance(event["seconds"], float) for event in ended)
    gate = next(event for event in events if event["event"] == "gate")
    assert (gate["id"], gate["severity"], gate["outcome"]) == ("gates/test_first.py::test_passes", "critical", "passed")


def test_gates_of_workers_are_in_the_audit_trail(project: Project) -> None:
    project.write("gates/test_f.py", "def test_f(): assert 0, 'canary broke'\n")
    run(project, "-n", "2")
    gates = {event["id"]: event for event in audit(project) if event["event"] == "gate"}
    assert gates["gates/test_first.py::test_passes"]["outcome"] == "passed"
    assert gates["gates/test_f.py::test_f"]["outcome"] == "failed"
    assert "canary broke" in gates["gates/test_f.py::test_f"]["message"]


def test_lines_for_people_name_the_event_and_hold_no_secret(project: Project) -> None:
    project.write("gates/test_f.py", "import os\ndef test_f(): assert not os.environ['API_KEY']\n")
    _, err = run(project, "--deploy-log-format=human", API_KEY="canary-12345")
    assert "gate gates/test_f.py::test_f failed" in err
    assert "canary-12345" not in err
    assert "[API_KEY redacted]" in err
    assert "\x1b" not in err, "no colours outside of a terminal"


def test_colours_are_for_terminals_and_no_color_is_honoured(project: Project) -> None:
    def on_a_terminal(**env: str) -> bytes:
        ours, theirs = pty.openpty()
        subprocess.run(
            project.command("gates", "--deploy-log-format=human"),
            cwd=project.root,
            env=project.environ(**env),
            stdout=subprocess.DEVNULL,
            stderr=theirs,
        )
        os.close(theirs)
        os.set_blocking(ours, False)
        return os.read(ours, 65536)

    assert b"\x1b[" in on_a_terminal()
    plain = on_a_terminal(NO_COLOR="1")
    assert b"verdict" in plain
    assert b"\x1b[" not in plain


def test_a_log_that_nobody_reads_does_not_keep_a_release_from_its_end(project: Project) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        project.command("gates", "--deploy-log-format=json"),
        cwd=project.root,
        env=project.environ(),
        stdout=subprocess.DEVNULL,
        stderr=writing,
    )
    os.close(writing)
    assert done.returncode == 0
    assert project.target == "v1.0.0"
