"""The local driver with real services, real processes and real faults."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy_guard import (
    CommandFailed,
    Context,
    Deadline,
    Plan,
    PlanRejected,
    Release,
    RollbackFailed,
    RolloutDoomed,
    Snapshot,
    VerifyFailed,
)
from deploy_guard.drivers import make_driver
from deploy_guard.drivers.local import LocalDriver

SERVER = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
print("starting", os.environ["VERSION"], flush=True)
{first}
class H(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({{"version": os.environ["VERSION"], "env": sorted(os.environ)}}).encode()
        self.send_response({status}); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), H).serve_forever()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Host:
    """A folder with an artifact and a configuration; ``ship`` does what a run does."""

    root: Path
    port: int
    config: dict[str, Any]

    def artifact(self, first: str = "", status: int = 200) -> None:
        folder = self.root / "app"
        folder.mkdir(exist_ok=True)
        (folder / "server.py").write_text(SERVER.format(first=textwrap.dedent(first), status=status))

    @property
    def driver(self) -> LocalDriver:
        made = make_driver("local", self.config, Context("shop", "stage", self.root))
        assert isinstance(made, LocalDriver)
        return made

    def plan(self, version: str) -> Plan:
        return self.driver.plan(Release(version))

    def ship(self, version: str) -> Snapshot:
        driver = self.driver
        plan = driver.plan(Release(version))
        snapshot = Snapshot.from_json(json.loads(json.dumps(driver.snapshot(plan).to_json())))
        driver.apply(plan)
        driver.wait(plan, Deadline.after(10))
        return snapshot

    def back(self, snapshot: Snapshot) -> None:
        self.driver.rollback(snapshot, Deadline.after(10))
        self.driver.verify(snapshot, Deadline.after(5))

    def asked(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=2) as answer:
            data: dict[str, Any] = json.load(answer)
            return data

    @property
    def served(self) -> str | None:
        try:
            return str(self.asked()["version"])
        except OSError:
            return None

    @property
    def pid(self) -> int:
        return int(json.loads((self.root / "dep/service.json").read_text())["pid"])

    @property
    def releases(self) -> list[str]:
        return sorted(p.name.rsplit("-", 1)[0] for p in (self.root / "dep/releases").iterdir() if p.is_dir())


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    port = free_port()
    made = Host(
        tmp_path,
        port,
        {
            "root": "dep",
            "artifact": "app",
            "command": [sys.executable, "server.py"],
            "ready-url": f"http://127.0.0.1:{port}/",
            "variables": {"PORT": str(port)},
            "stop-timeout": "1s",
        },
    )
    made.artifact()
    yield made
    for process in psutil.process_iter(["environ"]):
        if (process.info["environ"] or {}).get("DEPLOY_GUARD_SERVICE") == str(tmp_path / "dep"):
            process.kill()


def test_a_release_is_served_and_the_same_again_changes_nothing(host: Host) -> None:
    snapshot = host.ship("v1.0.0")
    assert snapshot.previous is None
    assert host.served == "v1.0.0"
    pid = host.pid
    plan = host.plan("v1.0.0")
    assert plan.unchanged
    host.driver.wait(plan, Deadline.after(5))
    assert host.pid == pid


def test_the_next_release_replaces_it_and_rollback_brings_it_back(host: Host) -> None:
    host.ship("v1.0.0")
    host.artifact("# changed")
    snapshot = host.ship("v2.0.0")
    assert (host.served, snapshot.previous) == ("v2.0.0", "v1.0.0")
    host.back(snapshot)
    assert host.served == "v1.0.0"
    assert host.releases == ["v1.0.0"]
    host.back(snapshot)
    assert host.served == "v1.0.0", "a second rollback changes nothing"


def test_a_first_release_that_is_rolled_back_leaves_nothing(host: Host) -> None:
    snapshot = host.ship("v1.0.0")
    host.back(snapshot)
    assert host.served is None
    assert not (host.root / "dep").exists()


def test_planning_changes_nothing_on_disk(host: Host) -> None:
    host.plan("v1.0.0")
    assert not (host.root / "dep").exists()
    host.ship("v1.0.0")
    before = sorted((p, p.lstat().st_mtime_ns) for p in host.root.rglob("*"))
    host.artifact("# changed")
    plan = host.plan("v2.0.0")
    host.driver.snapshot(plan)
    (host.root / "app/server.py").unlink()
    host.artifact()
    after = sorted((p, p.lstat().st_mtime_ns) for p in host.root.rglob("*"))
    assert [p for p, _ in before] == [p for p, _ in after]
    assert [entry for entry in before if "dep" in entry[0].parts] == [e for e in after if "dep" in e[0].parts]


def test_a_service_that_ends_early_is_told_at_once_with_its_last_words(host: Host) -> None:
    host.ship("v1.0.0")
    host.artifact("sys.exit('no database')")
    driver = host.driver
    plan = driver.plan(Release("v2.0.0"))
    snapshot = driver.snapshot(plan)
    driver.apply(plan)
    started = time.monotonic()
    with pytest.raises(RolloutDoomed, match="ended before it was ready") as error:
        driver.wait(plan, Deadline.after(30))
    assert time.monotonic() - started < 5
    assert "no database" in str(error.value)
    assert "starting v1.0.0" not in str(error.value), "the last words are those of this start"
    host.back(snapshot)
    assert host.served == "v1.0.0"


def test_a_service_that_never_becomes_ready_fails_at_the_deadline(host: Host) -> None:
    host.artifact(status=503)
    driver = host.driver
    plan = driver.plan(Release("v1.0.0"))
    driver.snapshot(plan)
    driver.apply(plan)
    with pytest.raises(RolloutDoomed, match=r"not ready after 1 s.*status 503"):
        driver.wait(plan, Deadline.after(1))


def test_without_a_readiness_url_the_service_must_stay_up(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    del host.config["ready-url"]
    host.ship("v1.0.0")
    # Python alone may take a second to start on a busy machine; a service that ends is told long before this.
    monkeypatch.setattr("deploy_guard.drivers.local.service._DWELL", 20.0)
    host.artifact("import time; time.sleep(0.3); sys.exit(1)")
    with pytest.raises(RolloutDoomed, match="ended before it was ready"):
        host.ship("v2.0.0")


def test_a_process_that_died_is_a_change_and_is_started_again(host: Host) -> None:
    host.ship("v1.0.0")
    os.kill(host.pid, signal.SIGKILL)
    psutil.Process(host.pid).wait(5)
    plan = host.plan("v1.0.0")
    assert not plan.unchanged
    assert "service" in [c.object for c in plan.changes if c.action == "change"]
    host.ship("v1.0.0")
    assert host.served == "v1.0.0"


def test_a_rollback_does_not_start_what_was_not_running(host: Host) -> None:
    host.ship("v1.0.0")
    os.kill(host.pid, signal.SIGKILL)
    psutil.Process(host.pid).wait(5)
    host.artifact("# changed")
    snapshot = host.ship("v2.0.0")
    host.back(snapshot)
    assert host.served is None
    assert "v1.0.0" in str((host.root / "dep/current").readlink())


def test_a_port_in_use_is_told_at_plan_and_the_other_process_is_left_alone(host: Host) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", host.port))
        other.listen()
        with pytest.raises(PlanRejected, match=f"port {host.port} of 127.0.0.1 is in use"):
            host.plan("v1.0.0")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"artifact": "nonesuch"}, "artifact nonesuch does not exist"),
        ({"command": ["nonesuch-program"]}, "'nonesuch-program' is neither in the artifact nor on the PATH"),
        ({"command": ["./server.py"]}, "not executable"),
        ({"ready-url": "http://nonesuch.invalid:1/"}, "can't be resolved"),
    ],
)
def test_what_cannot_work_is_told_at_plan(host: Host, change: dict[str, Any], message: str) -> None:
    host.config.update(change)
    with pytest.raises(PlanRejected, match=message):
        host.plan("v1.0.0")


@pytest.mark.parametrize("version", [None, "../../etc", "v1/2", "", "-rf"])
def test_a_version_that_cannot_be_a_folder_is_refused(host: Host, version: str | None) -> None:
    with pytest.raises(PlanRejected, match="version"):
        host.driver.plan(Release(version))


def test_a_link_out_of_the_artifact_is_refused(host: Host) -> None:
    (host.root / "app/link").symlink_to("/etc/passwd")
    with pytest.raises(PlanRejected, match="leads out of the artifact"):
        host.plan("v1.0.0")


def test_a_link_inside_the_artifact_is_kept(host: Host) -> None:
    (host.root / "app/link").symlink_to("server.py")
    host.ship("v1.0.0")
    assert (host.root / "dep/current/link").is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_disk_that_fills_up_leaves_the_old_release_serving(host: Host) -> None:
    disk = host.root / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr}")
    try:
        host.config["root"] = "disk/dep"
        host.ship("v1.0.0")
        (host.root / "app/big").write_bytes(b"x" * 8_000_000)
        with pytest.raises(PlanRejected, match="too full"):
            host.plan("v2.0.0")
        (host.root / "app/big").write_bytes(b"x" * 2_000_000)
        driver = host.driver
        plan = driver.plan(Release("v2.0.0"))
        snapshot = driver.snapshot(plan)
        (disk / "filler").write_bytes(b"x" * 2_500_000)
        with pytest.raises(RolloutDoomed, match="the disk is full"):
            driver.apply(plan)
        assert host.served == "v1.0.0"
        (disk / "filler").unlink()
        host.back(snapshot)
        assert host.served == "v1.0.0"
        assert not list((disk / "dep/releases").glob(".copy*"))
        driver.rollback(snapshot, Deadline.after(5))
    finally:
        for process in psutil.process_iter(["environ"]):
            if (process.info["environ"] or {}).get("DEPLOY_GUARD_SERVICE") == str(disk / "dep"):
                process.kill()
                process.wait()
        subprocess.run(["umount", str(disk)], check=True)


def test_a_half_copied_release_is_copied_again(host: Host) -> None:
    name = host.plan("v1.0.0").data["name"]  # type: ignore[call-overload,index]
    half = host.root / "dep/releases" / str(name)
    half.mkdir(parents=True)
    (half / "part").touch()
    (host.root / "dep/releases/.copy-killed").mkdir()
    host.ship("v1.0.0")
    assert host.served == "v1.0.0"
    assert not (host.root / "dep/current/part").exists()
    assert not (host.root / "dep/releases/.copy-killed").exists()


def test_a_changed_artifact_under_the_same_version_is_a_new_release(host: Host) -> None:
    host.ship("v1.0.0")
    host.artifact("# changed")
    assert not host.plan("v1.0.0").unchanged


def test_changed_settings_of_the_service_are_a_new_release(host: Host) -> None:
    host.ship("v1.0.0")
    host.config["variables"]["COLOUR"] = "blue"
    assert not host.plan("v1.0.0").unchanged


def test_rollback_works_from_another_process_after_the_configuration_changed(host: Host) -> None:
    host.ship("v1.0.0")
    host.artifact("# changed")
    snapshot = host.ship("v2.0.0")
    (host.root / "snapshot.json").write_text(json.dumps(snapshot.to_json()))
    config = {**host.config, "command": [sys.executable, "-m", "nonesuch"], "artifact": "gone"}
    code = (
        "import json, sys, pathlib\nfrom deploy_guard import Context, Deadline, Snapshot\n"
        "from deploy_guard.drivers import make_driver\n"
        "driver = make_driver('local', json.loads(sys.argv[1]), Context('shop', 'stage', pathlib.Path.cwd()))\n"
        "snapshot = Snapshot.from_json(json.loads(pathlib.Path('snapshot.json').read_text()))\n"
        "driver.rollback(snapshot, Deadline.after(10)); driver.verify(snapshot, Deadline.after(5))\n"
    )
    subprocess.run([sys.executable, "-c", code, json.dumps(config)], cwd=host.root, check=True, timeout=30)
    assert host.served == "v1.0.0"


def test_a_start_that_was_cut_off_is_found_and_ended(host: Host) -> None:
    host.ship("v1.0.0")
    old = host.pid
    record = host.root / "dep/service.json"
    record.write_text(json.dumps({"release": "x", "starting": True}))
    host.ship("v1.0.0")
    assert host.pid != old
    assert not psutil.pid_exists(old) or psutil.Process(old).status() == psutil.STATUS_ZOMBIE


def test_verification_tells_every_difference(host: Host) -> None:
    host.ship("v1.0.0")
    host.artifact("# changed")
    snapshot = host.ship("v2.0.0")
    with pytest.raises(VerifyFailed) as error:
        host.driver.verify(snapshot, Deadline.after(2))
    assert "current is v2.0.0" in str(error.value)
    assert "is not running" in str(error.value)
    host.back(snapshot)
    (host.root / "dep/current/server.py").write_text("# touched")
    with pytest.raises(VerifyFailed, match="not what was released"):
        host.driver.verify(snapshot, Deadline.after(2))


def test_a_rollback_that_cannot_work_says_where_to_look(host: Host) -> None:
    host.ship("v1.0.0")
    host.artifact("# changed")
    snapshot = host.ship("v2.0.0")
    for meta in (host.root / "dep/releases").glob("v1.0.0-*.json"):
        meta.unlink()
    with pytest.raises(RollbackFailed, match=r"v1\.0\.0.*can't be read"):
        host.driver.rollback(snapshot, Deadline.after(5))


def test_old_releases_are_removed_beyond_the_last_five(host: Host) -> None:
    host.config["keep"] = 3
    for number in range(6):
        host.artifact(f"# {number}")
        host.ship(f"v1.{number}.0")
    assert host.releases == ["v1.3.0", "v1.4.0", "v1.5.0"]


def test_the_service_sees_only_what_it_is_allowed_to(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "not for the service")
    monkeypatch.setenv("WANTED", "for the service")
    host.config["environment"] = ["WANTED"]
    host.ship("v1.0.0")
    seen = host.asked()["env"]
    assert "WANTED" in seen
    assert "API_KEY" not in seen
    assert {"VERSION", "DEPLOY_ENV", "PORT"} <= set(seen)


def test_commands_before_and_after_run_in_the_new_release(host: Host) -> None:
    host.config["before"] = [["sh", "-c", "echo $VERSION > migrated"]]
    host.config["after"] = [["sh", "-c", "cat migrated > warmed"]]
    host.ship("v1.0.0")
    assert (host.root / "dep/current/warmed").read_text() == "v1.0.0\n"


def test_a_failing_command_before_leaves_the_old_release_serving(host: Host) -> None:
    host.ship("v1.0.0")
    pid = host.pid
    host.artifact("# changed")
    host.config["before"] = [["sh", "-c", "echo cannot migrate >&2; exit 3"]]
    driver = host.driver
    plan = driver.plan(Release("v2.0.0"))
    snapshot = driver.snapshot(plan)
    with pytest.raises(CommandFailed, match=r"exit code 3:\n  cannot migrate"):
        driver.apply(plan)
    assert (host.served, host.pid) == ("v1.0.0", pid)
    host.back(snapshot)
    assert host.pid == pid, "what was never stopped is not restarted"


def test_a_restart_command_takes_the_place_of_a_service_of_our_own(host: Host) -> None:
    del host.config["command"], host.config["ready-url"]
    host.config["restart-command"] = [
        "sh",
        "-c",
        "readlink ../../current > ../../restarted; sleep 60 & echo $! > ../../pid",
    ]
    host.artifact("# one")
    host.ship("v1.0.0")
    assert "v1.0.0" in (host.root / "dep/restarted").read_text()
    supervised = int((host.root / "dep/pid").read_text())
    assert psutil.pid_exists(supervised), "what a restart command starts lives on"
    os.kill(supervised, signal.SIGKILL)
    host.artifact("# two")
    snapshot = host.ship("v2.0.0")
    os.kill(int((host.root / "dep/pid").read_text()), signal.SIGKILL)
    host.back(snapshot)
    assert "v1.0.0" in (host.root / "dep/restarted").read_text()
    os.kill(int((host.root / "dep/pid").read_text()), signal.SIGKILL)


def test_a_service_that_ignores_sigterm_is_killed(host: Host) -> None:
    host.artifact("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    host.ship("v1.0.0")
    host.artifact("# polite")
    started = time.monotonic()
    host.ship("v2.0.0")
    assert host.served == "v2.0.0"
    assert 1 <= time.monotonic() - started < 8


def test_a_single_file_can_be_released(host: Host) -> None:
    (host.root / "page.html").write_text("hello")
    host.config = {"root": "dep", "artifact": "page.html"}
    snapshot = host.ship("v1.0.0")
    assert (host.root / "dep/current/page.html").read_text() == "hello"
    host.back(snapshot)


def test_a_root_whose_current_is_not_a_link_is_refused(host: Host) -> None:
    (host.root / "dep/current").mkdir(parents=True)
    with pytest.raises(PlanRejected, match="not a link that deploy-guard made"):
        host.plan("v1.0.0")


@pytest.mark.parametrize(
    ("variable", "word"),
    [("JENKINS_URL", "Jenkins build"), ("KUBERNETES_SERVICE_HOST", "pod"), ("INVOCATION_ID", "unit")],
)
def test_the_headline_says_that_the_service_ends_with_the_job(
    host: Host, monkeypatch: pytest.MonkeyPatch, variable: str, word: str
) -> None:
    for name in ("JENKINS_URL", "KUBERNETES_SERVICE_HOST", "INVOCATION_ID", "GITHUB_ACTIONS", "GITLAB_CI"):
        monkeypatch.delenv(name, raising=False)
    assert host.driver.notices() == ()
    monkeypatch.setenv(variable, "1")
    assert word in host.driver.notices()[0]
