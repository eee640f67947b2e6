"""Disk, memory, tools, processes and ports of this machine, and of made-up trees of control groups."""

from __future__ import annotations

import errno
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy_guard.probes import ports
from deploy_guard.probes.machine import Machine
from deploy_guard.probes.ports import address_of
from deploy_guard.probes.tools import OF_DRIVER, Requirement, Tool

MIB = 1024 * 1024
HUGE = 9223372036854771712
"""What version 1 says where there is no limit."""


def test_the_machine_knows_its_disk_memory_and_tools(tmp_path: Path) -> None:
    machine = Machine()
    assert 0 < machine.disk(tmp_path).used_percent <= 100
    memory = machine.memory()
    assert 0 < memory.used_percent < 100
    assert memory.used + memory.free == memory.total
    assert machine.which("sh")
    assert machine.which("nonesuch-program") is None
    assert machine.run(["echo", "hi"]).stdout == "hi\n"
    for probe in (machine.disk, machine.inodes):
        with pytest.raises(OSError, match="nonesuch"):
            probe("/nonesuch")


class Stat:
    """What ``os.statvfs`` says of a file system."""

    def __init__(self, files: int, free: int, available: int) -> None:
        self.f_files, self.f_ffree, self.f_favail = files, free, available


@pytest.mark.parametrize(
    ("stat", "percent"), [(Stat(1000, 400, 200), 75), (Stat(1000, 0, 0), 100), (Stat(0, 0, 0), None)]
)
def test_inodes_are_counted_as_df_does(monkeypatch: pytest.MonkeyPatch, stat: Stat, percent: float | None) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: stat)
    usage = Machine().inodes("/x")
    assert (usage and usage.used_percent) == percent


# Control groups


class Tree:
    """Control groups in a folder; ``v1`` for the memory controller of version 1."""

    def __init__(self, root: Path, *, v1: bool) -> None:
        self.root = root / "cgroup"
        self.membership = root / "membership"
        self.v1 = v1

    def group(self, path: str, limit: int | str, used: int, inactive: int = 0) -> None:
        folder = (self.root / "memory" if self.v1 else self.root) / path.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if self.v1 else ("memory.max", "memory.current")
        for name, value in zip(names, (limit, used), strict=True):
            (folder / name).write_text(f"{value}\n")
        key = "total_inactive_file" if self.v1 else "inactive_file"
        (folder / "memory.stat").write_text(f"anon 1\n{key} {inactive}\nactive_file 3\n")

    def machine(self, path: str) -> Machine:
        lines = f"5:cpu,memory:{path}\n1:name=systemd:/\n0::/\n" if self.v1 else f"0::{path}\n"
        self.membership.write_text(lines)
        return Machine(cgroups=self.root, membership=self.membership)


@pytest.fixture(params=[True, False], ids=["v1", "v2"])
def tree(tmp_path: Path, request: pytest.FixtureRequest) -> Tree:
    return Tree(tmp_path, v1=request.param)


def test_inside_a_container_the_limit_of_its_group_is_what_counts(tree: Tree) -> None:
    tree.group("/", 100 * MIB, 90 * MIB, inactive=40 * MIB)
    memory = tree.machine("/").memory()
    assert (memory.what, memory.used_percent) == ("memory of the cgroup /", 50)
    assert (memory.total, memory.used, memory.free) == (100 * MIB, 50 * MIB, 50 * MIB)


def test_the_group_that_leaves_the_least_is_the_one_that_counts(tree: Tree) -> None:
    tree.group("/pods", 100 * MIB, 95 * MIB)
    tree.group("/pods/ours", 50 * MIB, 10 * MIB)
    assert tree.machine("/pods/ours").memory().what == "memory of the cgroup /pods"
    tree.group("/pods", 1000 * MIB, 95 * MIB)
    assert tree.machine("/pods/ours").memory().what == "memory of the cgroup /pods/ours"


def test_where_no_group_has_a_limit_the_machine_is_measured(tree: Tree) -> None:
    tree.group("/", HUGE, 1)
    tree.group("/a", HUGE if tree.v1 else "max", 1)
    assert tree.machine("/a").memory().what == "memory of the machine"
    assert tree.machine("/nonesuch").memory().what == "memory of the machine"


def test_a_path_of_the_host_means_our_own_group_at_the_root(tree: Tree) -> None:
    tree.group("/", 100 * MIB, 25 * MIB)
    for path in ("/docker/0a1b", "/../../kubepods/pod1", "/"):
        memory = tree.machine(path).memory()
        assert (memory.what, memory.used_percent) == ("memory of the cgroup /", 25)


def test_a_limit_whose_use_can_not_be_read_is_an_error(tree: Tree) -> None:
    tree.group("/", 100 * MIB, 25 * MIB)
    next(tree.root.rglob("memory.stat")).unlink()
    with pytest.raises(OSError, match=r"memory\.stat"):
        tree.machine("/").memory()


def test_a_full_group_is_full(tree: Tree) -> None:
    tree.group("/", 0, 0)
    assert tree.machine("/").memory().used_percent == 100


def test_without_control_groups_the_machine_is_measured(tmp_path: Path) -> None:
    machine = Machine(cgroups=tmp_path, membership=tmp_path / "nonesuch")
    assert machine.memory().what == "memory of the machine"


# Which machine


@pytest.mark.parametrize(
    ("driver", "environ", "words"),
    [
        (None, {"DOCKER_HOST": "tcp://far:2376"}, None),
        ("local", {"DOCKER_HOST": "tcp://far:2376"}, None),
        ("compose", {}, None),
        ("compose", {"DOCKER_HOST": "unix:///var/run/docker.sock"}, None),
        ("compose", {"DOCKER_HOST": "tcp://127.0.0.1:2375"}, None),
        ("compose", {"DOCKER_HOST": "tcp://localhost:2375", "DOCKER_CONTEXT": "default"}, None),
        ("compose", {"DOCKER_HOST": "tcp://far:2376"}, "the DOCKER_HOST host far:"),
        ("compose", {"DOCKER_HOST": "ssh://me:canary@far"}, "the DOCKER_HOST host far:"),
        ("compose", {"DOCKER_HOST": "tcp://[bad"}, "the DOCKER_HOST host that can't be read:"),
        ("compose", {"DOCKER_HOST": "tcp://far:2376", "DOCKER_CONTEXT": "other"}, "the Docker context other:"),
        ("kubernetes", {}, "the cluster eks:"),
    ],
)
def test_a_target_elsewhere_is_told_and_never_its_credentials(
    driver: str | None, environ: dict[str, str], words: str | None
) -> None:
    said = Machine().looked_at(driver, environ, "eks")
    assert said.startswith(f"this machine ({Machine().name})")
    assert ("disks and memory are not looked at" in said) is (words is not None)
    assert words is None or words in said
    assert "canary" not in said


# Tools


@pytest.mark.parametrize(
    ("text", "name", "minimum"),
    [
        ("jq", "jq", None),
        (" docker >= 20.10 ", "docker", "20.10"),
        ("docker compose>=2.20", "docker compose", "2.20"),
        ("g++>=9", "g++", "9"),
    ],
)
def test_requirements_are_read(text: str, name: str, minimum: str | None) -> None:
    assert Requirement.parse(text) == Requirement(name, minimum)


@pytest.mark.parametrize("text", ["", "docker>20", "docker==1.2", ">=1", "a b c>=1", "docker>=new", "docker>=1.x"])
def test_requirements_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"name>=1\.2"):
        Requirement.parse(text)


@pytest.mark.parametrize(
    ("version", "minimum", "enough"),
    [
        ("1.10", "1.9", True),
        ("1.9", "1.10", False),
        ("2", "2.0.0", True),
        ("20.10.0", "20.10", True),
        (None, "1", False),
    ],
)
def test_versions_are_compared_by_number(version: str | None, minimum: str, enough: bool) -> None:
    assert Tool("x", "/x", version).at_least(minimum) is enough


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of the PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def script(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("name", "says", "version"),
    [
        ("kubectl", '[ "$*" = "version --client" ] && echo "Client Version: v1.29.3"', "1.29.3"),
        ("docker", '[ "$*" = "--version" ] && echo "Docker version 24.0.5, build ced0996"', "24.0.5"),
        ("docker compose", '[ "$*" = "compose version" ] && echo "Docker Compose version v2.24.6-desktop.1"', "2.24.6"),
        ("git", '[ "$*" = "--version" ] && echo "git version 2.39.2 (Apple Git-143)"', "2.39.2"),
        ("jq", "echo jq-1.6", "1.6"),
        ("java", '[ "$*" = "-version" ] && echo \'openjdk version "17.0.9" 2023-10-17\' >&2', "17.0.9"),
        ("lessx", "echo 'lessx 590 (GNU regular expressions)'", "590"),
    ],
)
def test_tools_are_asked_for_their_version_in_their_own_way(on_path: Path, name: str, says: str, version: str) -> None:
    script(on_path, name.split()[0], says)
    tool = Machine().tool(name)
    assert (tool.version, tool.path, tool.problem) == (version, str(on_path / name.split()[0]), "")


def test_tools_without_a_version_have_a_problem_that_says_why(on_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy_guard.probes.tools.DEADLINE", 0.3)
    script(on_path, "mute", "echo no number here, built 2023")
    script(on_path, "broken", "exit 3")
    script(on_path, "hangs", "sleep 30")
    found = {name: Machine().tool(name) for name in ("mute", "broken", "hangs", "nonesuch-program", "broken plugin")}
    assert [tool.version for tool in found.values()] == [None] * 5
    assert found["mute"].problem == "mute says no version"
    assert "exit code 3" in found["broken"].problem
    assert "ran longer than 0.3 s" in found["hangs"].problem
    assert found["hangs"].path is not None
    assert found["nonesuch-program"].problem == "nonesuch-program is not on the PATH"
    assert found["broken plugin"].path is None, "a plugin that can't be run is not there"


def test_what_the_drivers_need_can_be_read() -> None:
    assert {"compose", "kubernetes", "local"} == set(OF_DRIVER)
    assert [Requirement.parse(text).name for text in OF_DRIVER["compose"]] == ["docker", "docker compose"]


# Processes


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    program = tmp_path / "sleeper-4711"
    program.symlink_to(sys.executable)
    with subprocess.Popen(
        [program, "-c", "import time; print(flush=True); time.sleep(60)", "--as=b"], stdout=-1
    ) as made:
        assert made.stdout is not None
        made.stdout.readline()
        yield made
        made.kill()


def test_processes_are_found_by_name_and_by_whole_words_of_their_command_line(
    sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    machine = Machine()
    for wanted in ("sleeper-4711", "time.sleep(60) --as=b", f"{tmp_path}/sleeper-4711"):
        assert [process.pid for process in machine.processes(wanted)] == [sleeper.pid], wanted
    for wanted in ("sleeper", "time.sleep(60) --as", "--as=b", f"{tmp_path}/sleeper"):
        assert machine.processes(wanted) == [], wanted


def test_this_process_and_those_that_started_it_do_not_count(tmp_path: Path) -> None:
    code = "from deploy_guard.probes.machine import Machine; print(Machine().processes('canary of-a-parent'))"
    shell = f'{sys.executable} -c "{code}" canary of-a-parent; true'
    assert subprocess.check_output(["sh", "-c", shell, "canary", "of-a-parent"], text=True) == "[]\n"


def test_zombies_do_not_run() -> None:
    with subprocess.Popen(["sh", "-c", "exit 0"]) as dead:
        os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
        assert dead.pid not in [process.pid for process in Machine().processes("sh")]


# Ports


@pytest.fixture(params=[(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")], ids=["v4", "v6"])
def listener(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    family, address = request.param
    with socket.socket(family) as made:
        made.bind((address, 0))
        made.listen()
        yield address, made.getsockname()[1]


def test_a_port_that_somebody_listens_at_is_open_and_taken(listener: tuple[str, int]) -> None:
    address, port = listener
    shown = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    assert Machine().reach(shown) == ""
    assert Machine().taken(port).startswith("in use")


def test_who_holds_a_port_is_told() -> None:
    code = "import socket; s = socket.create_server(('', 0)); print(s.getsockname()[1], flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout is not None
        said = Machine().taken(int(other.stdout.readline()))
        other.kill()
    assert f"(process {other.pid})" in said


def test_a_port_that_nobody_listens_at_is_closed_and_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as made:
        port = made.getsockname()[1]
    assert Machine().taken(port) == ""
    assert Machine().reach(port) == "connection refused"
    assert "nonesuch" not in Machine().reach("nonesuch.invalid:80")
    assert Machine().reach("nonesuch.invalid:80") != ""


@pytest.mark.parametrize(
    ("value", "address"),
    [("h:80", ("h", 80)), (80, ("127.0.0.1", 80)), ("80", ("127.0.0.1", 80)), ("[::1]:80", ("[::1]", 80))],
)
def test_addresses_are_read(value: object, address: tuple[str, int]) -> None:
    assert address_of(value) == address


@pytest.mark.parametrize("value", ["", "h", "h:", "h:0", "h:65536", "::1:80", "http://h:80", True, -1, "h h:80"])
def test_addresses_that_are_none_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="host:port"):
        address_of(value)


def test_a_machine_without_a_name_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "")
    assert Machine().name == "without a name"


@pytest.mark.parametrize(
    ("family", "code", "answers", "words"),
    [
        (None, errno.EACCES, False, ""),
        (None, errno.EACCES, True, "in use"),
        (socket.AF_INET6, errno.EADDRNOTAVAIL, False, ""),
        (socket.AF_INET, errno.EADDRNOTAVAIL, False, None),
    ],
)
def test_where_a_port_can_not_be_bound_it_is_asked_and_doubt_is_an_error(
    monkeypatch: pytest.MonkeyPatch, family: int | None, code: int, answers: bool, words: str | None
) -> None:
    class Probe(socket.socket):
        def bind(self, address: object) -> None:
            if family in (None, self.family):
                raise OSError(code, os.strerror(code), address)

    monkeypatch.setattr(ports, "reach", lambda _: "" if answers else "connection refused")
    with socket.create_server(("127.0.0.1", 0)) as made:
        free = made.getsockname()[1]
    monkeypatch.setattr(socket, "socket", Probe)
    if words is None:
        with pytest.raises(OSError, match="assign requested address"):
            Machine().taken(free)
    else:
        assert Machine().taken(free) == words


@pytest.mark.parametrize(("code", "fault"), [(errno.EAFNOSUPPORT, False), (errno.EMFILE, True)])
def test_a_machine_without_ipv6_has_no_ports_of_it(monkeypatch: pytest.MonkeyPatch, code: int, fault: bool) -> None:
    real = socket.socket

    def make(family: int, *more: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(code, os.strerror(code))
        return real(family, *more)

    with socket.create_server(("127.0.0.1", 0)) as made:
        free = made.getsockname()[1]
    monkeypatch.setattr(socket, "socket", make)
    if fault:
        with pytest.raises(OSError, match="open files"):
            Machine().taken(free)
    else:
        assert Machine().taken(free) == ""
