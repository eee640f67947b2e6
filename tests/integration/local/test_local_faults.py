"""The local driver when things go wrong: what served before still serves, and what is left behind is nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy_guard.deadline import Deadline
from deploy_guard.drivers import make_driver
from deploy_guard.drivers.base import Context, Plan, Release, Snapshot
from deploy_guard.drivers.local import LocalDriver
from deploy_guard.errors import CommandFailed, PlanRejected, RollbackFailed, RolloutDoomed, VerifyFailed

SERVER = """
import os, signal, socket, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
# HERE
class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/elsewhere":
            self.send_response(302); self.send_header("Location", "/"); self.end_headers(); return
        self.send_response(200); self.end_headers(); self.wfile.write(os.environ["VERSION"].encode())
    def log_message(self, *args): pass
class Server(HTTPServer):
    def server_bind(self):  # without the look-up of the host's name
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.server_address
Server(("127.0.0.1", int(os.environ["PORT"])), Answer).serve_forever()
"""
ANOTHER_PROCESS = """
import json, pathlib, sys
from deploy_guard.deadline import Deadline
from deploy_guard.drivers import make_driver
from deploy_guard.drivers.base import Context, Release, Snapshot
driver = make_driver("local", json.loads(sys.argv[1]), Context("shop", "stage", pathlib.Path.cwd()))
"""


@dataclass
class Place:
    """A folder with an artifact ``app``, a configuration and what runs there."""

    folder: Path
    port: int
    config: dict[str, Any]
    plan: Plan | None = None

    @property
    def root(self) -> Path:
        return self.folder / str(self.config["root"])

    @property
    def driver(self) -> LocalDriver:
        """A new one each time: nothing may depend on what an object remembers."""
        made = make_driver("local", self.config, Context("shop", "stage", self.folder))
        assert isinstance(made, LocalDriver)
        return made

    def build(self, here: str = "", **files: str) -> None:
        (self.folder / "app").mkdir(exist_ok=True)
        (self.folder / "app/server.py").write_text(SERVER.replace("# HERE", here))
        for name, text in files.items():
            (self.folder / "app" / name).write_text(text)

    def begin(self, version: str) -> Snapshot:
        """Plan and snapshot."""
        self.plan = self.driver.plan(Release(version))
        return Snapshot.from_json(json.loads(json.dumps(self.driver.snapshot(self.plan).to_json())))

    def finish(self) -> None:
        """Apply and wait."""
        assert self.plan is not None
        self.driver.apply(self.plan)
        self.driver.wait(self.plan, Deadline.after(10))

    def ship(self, version: str) -> Snapshot:
        snapshot = self.begin(version)
        self.finish()
        return snapshot

    def back(self, snapshot: Snapshot) -> None:
        self.driver.rollback(snapshot, Deadline.after(10))
        self.driver.verify(snapshot, Deadline.after(5))

    @property
    def served(self) -> str | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=2) as answer:
                return str(answer.read().decode())
        except OSError:
            return None

    @property
    def pid(self) -> int:
        return int(json.loads((self.root / "service.json").read_text())["pid"])

    @property
    def current(self) -> Path:
        return self.root / "current"

    @property
    def releases(self) -> list[str]:
        """Everything in the folder of releases, by version; what is half or temporary shows with its whole name."""
        return sorted(p.name if p.name[0] == "." else p.name.split("-")[0] for p in (self.root / "releases").iterdir())

    def elsewhere(self, code: str) -> subprocess.Popen[str]:
        """Another process that goes on with ``driver``."""
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", ANOTHER_PROCESS + code, json.dumps(self.config)],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def running(root: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            marked = process.environ().get("DEPLOY_GUARD_SERVICE") == str(root)
            if marked and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:  # ended just now
            continue
    return found


def until(condition: Callable[[], object], seconds: float = 8) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = {
        "root": "dep",
        "artifact": "app",
        "command": [sys.executable, "server.py"],
        "ready-url": f"http://127.0.0.1:{port}/",
        "ready-timeout": "8s",
        "stop-timeout": "1s",
        "variables": {"PORT": str(port)},
    }
    made = Place(tmp_path, port, config)
    made.build()
    yield made
    for process in running(made.root):
        process.kill()


@contextmanager
def small_disk(place: Place, size: str) -> Iterator[Path]:
    """Move the root to a disk of its own; gives the disk's folder."""
    disk = place.folder / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small disk can't be mounted here: {mounted.stderr.strip()}")
    place.config["root"] = "disk/dep"
    try:
        yield disk
    finally:
        for process in running(place.root):
            process.kill()
            process.wait()
        subprocess.run(["umount", str(disk)], check=True)


@contextmanager
def stranger(port: int) -> Iterator[None]:
    """A process that is not ours (this one), answering 200 to everything."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", port), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# A disk that is full


def test_a_disk_that_is_full_at_the_switch_leaves_the_old_process_alone(place: Place) -> None:
    with small_disk(place, "4m") as disk:
        place.ship("v1")
        pid = place.pid
        place.build("# new")
        place.config["before"] = [["sh", "-c", f"head -c 8000000 /dev/zero > {disk}/filler || true"]]
        snapshot = place.begin("v2")
        with pytest.raises(RolloutDoomed, match="what served before still serves: the disk is full"):
            place.finish()
        assert (place.served, place.pid) == ("v1", pid)
        place.back(snapshot)
        assert (place.served, place.pid) == ("v1", pid), "what was never stopped is not restarted"
        assert place.releases == ["v1", "v1"]


def test_a_rollback_on_a_full_disk_makes_its_own_room(place: Place) -> None:
    with small_disk(place, "4m") as disk:
        place.ship("v1")
        place.build("# new", ballast="x" * 1_000_000)
        fill = f"head -c 8000000 /dev/zero > {disk}/filler; exit 1"
        place.config["after"] = [["sh", "-c", fill]]
        snapshot = place.begin("v2")
        with pytest.raises(CommandFailed, match="exit code 1"):
            place.finish()
        assert place.served == "v2"
        place.back(snapshot)
        assert place.served == "v1"


# Artifacts


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not read a file")
def test_a_file_that_may_not_be_read_is_named_and_nothing_is_touched() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place = Place(folder, 0, {"root": "dep", "artifact": "app"})
        place.build(secret="x")
        (folder / "app/secret").chmod(0)
        for path in (folder, folder / "app", folder / "app/server.py"):
            os.chown(path, 65534, 65534)
        os.seteuid(65534)
        try:
            with pytest.raises(PlanRejected, match=r"the artifact app can't be read: .*secret: Permission denied"):
                place.begin("v1")
            (folder / "app/secret").unlink()
            (folder / "app/closed").mkdir()
            (folder / "app/closed").chmod(0o300)
            with pytest.raises(PlanRejected, match="closed"):
                place.begin("v1")
        finally:
            os.seteuid(0)
        assert not (folder / "dep").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="for anybody but root the other tests show it")
def test_read_only_folders_of_a_release_can_be_removed_again() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
        try:
            place = Place(folder, 0, {"root": "dep", "artifact": "app"})
            (folder / "app/sub").mkdir(parents=True)
            (folder / "app/sub/file").touch()
            (folder / "app/sub").chmod(0o555)
            (folder / "app").chmod(0o555)
            snapshot = place.ship("v1")
            assert (place.current / "sub").stat().st_mode & 0o777 == 0o555
            place.back(snapshot)
            assert not (folder / "dep").exists()
            (folder / "app").chmod(0o755)
            (folder / "app/sub").chmod(0o755)
        finally:
            os.seteuid(0)


def test_an_artifact_that_holds_the_root_is_refused(place: Place) -> None:
    place.config["artifact"] = "."
    with pytest.raises(PlanRejected, match="lies inside the artifact"):
        place.begin("v1")


def test_an_empty_artifact_is_a_failed_build(place: Place) -> None:
    (place.folder / "nothing").mkdir()
    place.config["artifact"] = "nothing"
    with pytest.raises(PlanRejected, match="empty folder"):
        place.begin("v1")


def test_a_pipe_in_the_artifact_is_refused_and_not_waited_for(place: Place) -> None:
    os.mkfifo(place.folder / "app/pipe")
    with pytest.raises(PlanRejected, match="pipe is neither a file nor a folder nor a link"):
        place.begin("v1")


def test_an_artifact_that_changes_after_the_plan_is_not_shipped(place: Place) -> None:
    place.ship("v1")
    place.build("# planned")
    snapshot = place.begin("v2")
    place.build("# another")
    with pytest.raises(RolloutDoomed, match="changed after it was planned"):
        place.finish()
    assert place.served == "v1"
    assert place.releases == ["v1", "v1"]
    place.back(snapshot)


def test_modes_are_kept_and_a_new_mode_is_a_new_release(place: Place) -> None:
    (place.folder / "app/tool").write_text("#!/bin/sh\n")
    place.ship("v1")
    (place.folder / "app/tool").chmod(0o755)
    place.ship("v1")
    assert (place.current / "tool").stat().st_mode & 0o777 == 0o755


def test_what_python_writes_beside_its_modules_is_no_change(place: Place) -> None:
    place.ship("v1")
    (place.folder / "app/__pycache__").mkdir()
    (place.folder / "app/__pycache__/server.pyc").touch()
    assert place.driver.plan(Release("v1")).unchanged


# Whose process answers


def test_an_answer_of_another_process_does_not_make_a_dying_service_ready(place: Place) -> None:
    place.build("time.sleep(0.4); sys.exit('the port is taken')")
    snapshot = place.begin("v1")
    with stranger(place.port), pytest.raises(RolloutDoomed, match="the port is taken"):
        place.finish()
    place.back(snapshot)


def test_a_service_behind_a_proxy_of_its_own_is_ready_when_it_stays_up(place: Place) -> None:
    place.build("time.sleep(60)")  # it does not listen itself
    place.begin("v1")
    with stranger(place.port):
        place.finish()


def test_a_redirect_is_not_an_answer(place: Place) -> None:
    place.config["ready-url"] += "elsewhere"
    place.config["ready-timeout"] = "500ms"
    with pytest.raises(RolloutDoomed, match=r"not ready after 0\.5 s: .*status 302"):
        place.ship("v1")


def test_workers_that_outlived_their_leader_are_ours(place: Place) -> None:
    place.build("if os.fork(): time.sleep(60)")  # the worker holds the port
    place.ship("v1")
    os.kill(place.pid, signal.SIGKILL)
    until(lambda: len(running(place.root)) == 1)
    assert place.served == "v1", "the worker goes on"
    place.build()
    place.ship("v2")
    assert place.served == "v2"
    assert [p.pid for p in running(place.root)] == [place.pid]


def test_a_worker_that_ignores_the_request_to_end_is_killed(place: Place) -> None:
    place.build("if os.fork() == 0: signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)")
    snapshot = place.ship("v1")
    place.back(snapshot)
    assert not running(place.root)


def test_a_number_that_was_used_again_is_not_our_process(place: Place) -> None:
    snapshot = place.ship("v1")
    record = json.loads((place.root / "service.json").read_text())
    other = subprocess.Popen(["sleep", "60"])
    try:
        os.kill(record["pid"], signal.SIGKILL)
        until(lambda: not running(place.root))
        (place.root / "service.json").write_text(json.dumps({**record, "pid": other.pid, "created": 1e9}))
        assert not place.driver.plan(Release("v1")).unchanged
        place.back(snapshot)
        assert other.poll() is None, "another's process is left alone"
    finally:
        other.kill()
        other.wait()


def test_a_clock_that_was_set_does_not_lose_the_process(place: Place) -> None:
    place.ship("v1")
    file = place.root / "service.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "created": record["created"] - 3600}))
    assert place.driver.plan(Release("v1")).unchanged


# Rolling back


def test_applying_again_restarts_nothing(place: Place) -> None:
    place.ship("v1")
    pid = place.pid
    place.finish()
    assert place.pid == pid


def test_a_service_that_was_started_again_by_a_failed_run_is_stopped_again(place: Place) -> None:
    place.ship("v1")
    os.kill(place.pid, signal.SIGKILL)
    until(lambda: not running(place.root))
    snapshot = place.ship("v1")
    assert place.served == "v1"
    with pytest.raises(VerifyFailed, match="a service is running, and none was"):
        place.driver.verify(snapshot, Deadline.after(5))
    place.back(snapshot)
    assert place.served is None


def test_releases_from_before_a_removed_link_survive_the_rollback_of_a_first_release(place: Place) -> None:
    place.ship("v1")
    for process in running(place.root):
        process.kill()
        until(lambda: not running(place.root))
    place.current.unlink()
    place.build("# new")
    snapshot = place.ship("v2")
    assert snapshot.previous is None
    place.back(snapshot)
    assert place.releases == ["v1", "v1"]
    assert (place.root / "log/service.log").exists()


def test_a_kept_release_that_was_tried_again_is_still_kept_after_the_rollback(place: Place) -> None:
    place.ship("v1")
    place.build("# new")
    place.ship("v2")
    place.build()
    snapshot = place.ship("v1")
    place.back(snapshot)
    assert place.served == "v2"
    assert place.releases == ["v1", "v1", "v2", "v2"]


def test_what_a_service_writes_beside_its_files_is_no_difference_but_a_touched_file_is(place: Place) -> None:
    place.build("open('cache.db', 'w').close()", page="hello")
    place.config["before"] = [["touch", "migrated"]]
    place.ship("v1")
    place.build("# new")
    snapshot = place.ship("v2")
    place.back(snapshot)
    (place.current / "page").write_text("defaced")
    (place.current / "server.py").unlink()
    with pytest.raises(VerifyFailed) as error:
        place.driver.verify(snapshot, Deadline.after(5))
    told = [line.split(": ")[1] for line in error.value.differences]
    assert told == ["page is not what was released", "server.py is missing"]


def test_a_rollback_to_a_release_whose_files_are_gone_stops_nothing(place: Place) -> None:
    place.ship("v1")
    place.build("# new")
    snapshot = place.ship("v2")
    old = place.root / "releases" / str(snapshot.data["current"])  # type: ignore[call-overload,index]
    old.rename(place.folder / "away")
    with pytest.raises(RollbackFailed, match=r"the files of v1-.* are gone"):
        place.driver.rollback(snapshot, Deadline.after(5))
    assert place.served == "v2"


def test_the_old_settings_come_back_with_the_old_release(place: Place) -> None:
    place.ship("v1")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    place.config.update({"variables": {"PORT": str(port)}, "ready-url": f"http://127.0.0.1:{port}/"})
    snapshot = place.ship("v2")
    assert place.served is None
    place.back(snapshot)
    assert place.served == "v1", "on the port of the old release"


def test_a_release_without_a_command_stops_the_service_and_the_rollback_starts_it(place: Place) -> None:
    place.ship("v1")
    for key in ("command", "ready-url"):
        del place.config[key]
    snapshot = place.ship("v2")
    assert place.served is None
    assert not running(place.root)
    place.back(snapshot)
    assert place.served == "v1"


def test_a_supervisor_is_not_told_to_restart_what_was_never_replaced(place: Place) -> None:
    for key in ("command", "ready-url"):
        del place.config[key]
    place.config["restart-command"] = ["sh", "-c", "readlink ../../current >> ../../told"]
    place.ship("v1")
    assert place.driver.plan(Release("v1")).unchanged
    place.build("# new")
    place.config["before"] = [["false"]]
    snapshot = place.begin("v2")
    with pytest.raises(CommandFailed):
        place.finish()
    place.back(snapshot)
    assert len((place.root / "told").read_text().splitlines()) == 1
    place.config["before"] = []
    snapshot = place.ship("v2")
    place.back(snapshot)
    place.back(snapshot)
    told = [line.split("/")[1].split("-")[0] for line in (place.root / "told").read_text().splitlines()]
    assert told == ["v1", "v2", "v1"]


# Runs that die


def test_the_service_outlives_the_run_and_the_run_ends_without_a_word(place: Place) -> None:
    code = "plan = driver.plan(Release('v1')); driver.apply(plan); driver.wait(plan, Deadline.after(8))"
    out, err = place.elsewhere(code).communicate(timeout=20)
    assert out.startswith("service v1-")
    assert err == ""
    assert place.served == "v1"


def test_a_run_killed_before_the_switch_leaves_the_old_release_and_no_command(place: Place) -> None:
    place.ship("v1")
    pid = place.pid
    place.build("# new")
    place.config["before"] = [["sh", "-c", "echo $$ > ../../migrating; sleep 60"]]
    snapshot = place.begin("v2")
    run = place.elsewhere("driver.apply(driver.plan(Release('v2')))")
    marker = place.root / "migrating"
    until(lambda: marker.exists() and marker.read_text().strip())
    run.kill()
    run.communicate()
    command = int(marker.read_text())
    until(lambda: not psutil.pid_exists(command) or psutil.Process(command).status() == psutil.STATUS_ZOMBIE)
    assert (place.served, place.pid) == ("v1", pid)
    place.back(snapshot)
    assert (place.served, place.pid) == ("v1", pid)
    assert place.releases == ["v1", "v1"]


@pytest.mark.parametrize("step", ["Releases.switch", "Service.stop", "service._Lasting"])
def test_a_run_killed_right_after(place: Place, step: str) -> None:
    """The next process brings the old release back, from wherever the run was."""
    place.ship("v1")
    place.build("# new")
    snapshot = place.begin("v2")
    code = f"""
import os
from deploy_guard.drivers.local import service
from deploy_guard.drivers.local.releases import Releases
from deploy_guard.drivers.local.service import Service
act = {step}
def last(*args, **kwargs):
    act(*args, **kwargs)
    os.kill(os.getpid(), 9)
plan = driver.plan(Release("v2"))
{step} = last
driver.apply(plan)
"""
    run = place.elsewhere(code)
    run.communicate(timeout=20)
    assert run.returncode == -signal.SIGKILL
    place.back(snapshot)
    assert place.served == "v1"
    assert place.releases == ["v1", "v1"]
    assert [p.pid for p in running(place.root)] == [place.pid], "the one whose start was cut off is gone"


def test_a_run_killed_while_it_copies_leaves_a_copy_that_the_rollback_removes(place: Place) -> None:
    place.ship("v1")
    place.build("# new", ballast="x" * 1000)
    snapshot = place.begin("v2")
    code = """
import os
from deploy_guard.drivers.local import content
content._flush = lambda path: os.kill(os.getpid(), 9)
driver.apply(driver.plan(Release("v2")))
"""
    place.elsewhere(code).communicate(timeout=20)
    assert len(place.releases) == 3
    place.back(snapshot)
    assert place.releases == ["v1", "v1"]
    assert place.served == "v1"


# What is told


def test_plan_and_snapshot_hold_no_values_of_variables(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANTED", "value-from-outside")
    place.config["variables"]["GREETING"] = "value-from-the-table"
    place.config["environment"] = ["WANTED"]
    place.ship("v1")
    place.build("# new")
    snapshot = place.begin("v2")
    assert place.plan is not None
    told = json.dumps([place.plan.data, [vars(c) for c in place.plan.changes], snapshot.to_json()])
    assert "GREETING" in told
    assert "value-from" not in told
    stored = next((place.root / "releases").glob("v1-*.json")).read_text()
    assert "value-from-outside" not in stored, "what the environment holds is written nowhere"


def test_the_plan_names_the_files_that_change(place: Place) -> None:
    place.build(kept="1", gone="2", other="3")
    place.ship("v1")
    place.build(other="changed", new="4")
    (place.folder / "app/gone").unlink()
    plan = place.driver.plan(Release("v2"))
    assert plan.changes[0].action == "create"
    assert plan.changes[0].diff.splitlines() == ["- gone", "+ new", "~ other"]


def test_the_previous_release_is_never_removed(place: Place) -> None:
    for key in ("command", "ready-url"):
        del place.config[key]
    place.config["keep"] = 2
    for version in ("v1", "v2", "v3"):
        place.build(f"# {version}")
        place.ship(version)
    place.build("# v2")
    snapshot = place.ship("v2")  # back to one that is kept: v3 is the previous one now
    place.build("# v4")
    place.ship("v4")
    assert place.releases == ["v2", "v2", "v4", "v4"]
    assert snapshot.previous == "v3"


def test_a_log_that_has_grown_is_put_aside(place: Place) -> None:
    place.ship("v1")
    log = place.root / "log/service.log"
    with log.open("ab") as file:
        file.truncate(11 * 1024 * 1024)
    place.build("# new")
    place.ship("v2")
    assert log.stat().st_size < 10_000
    assert log.with_suffix(".log.1").stat().st_size == 11 * 1024 * 1024
