"""A real Docker engine for tests: any that docker is set to, with Compose; a project of its own for each test.

Where there is none a test skips and says why; in CI (``CI=true``) it fails. The fixtures are here too, and each module
takes those that it needs (``shop = compose.shop``): a second ``conftest`` would hide the one that others import from.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest

from deploy_guard.deadline import Deadline
from deploy_guard.drivers import make_driver
from deploy_guard.drivers.base import Context, Plan, Release, Snapshot
from deploy_guard.drivers.compose import ComposeDriver
from deploy_guard.drivers.compose.engine import Engine

T = TypeVar("T")
Body = dict[str, Any]

_DOCKERFILE = """
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
"""
_ELSEWHERE = "FROM busybox:1.36-musl\n"
_REST = """
ENV PATH=/bin OF_IMAGE=yes
RUN mkdir -p /www /tmp && echo {content} >/www/built
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["sleep 1000"]
"""
SERVE = 'echo "serving $$VERSION"; echo "$$VERSION" >/www/version; exec httpd -f -p 80 -h /www'
"""A service that says its version; ``$$`` because Compose reads it."""
HEALTHY = {
    "test": ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/version"],
    "interval": "0.3s",
    "retries": 2,
}
QUICK: Body = {"init": True, "stop_grace_period": "1s"}
"""What every service here has: pid 1 of an image of scratch ignores SIGTERM."""


_there: set[str] = set()
"""Images that were seen in the usual engine."""


# Where the engine is


@functools.cache
def absent() -> str:
    """Why there is no engine with Compose; empty where there is one."""
    if shutil.which("docker") is None:
        return "docker is not on the PATH"
    for argv in (["docker", "version", "--format", "{{.Server.Version}}"], ["docker", "compose", "version"]):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        if done.returncode:
            return f"{' '.join(argv[:3])}: {(done.stderr or done.stdout).strip()}"
    return ""


def missing(why: str) -> NoReturn:
    """Skip the test that asks; in CI nothing skips, so fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"in CI this may not be missing: {why}", pytrace=False)
    pytest.skip(why)


def docker(*words: str, check: bool = True, environ: Mapping[str, str] | None = None, timeout: float = 120.0) -> str:
    """What docker says; with ``check=False`` its complaint is part of the answer."""
    env = {**os.environ, **(environ or {})}
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=timeout, env=env)
    if check and done.returncode:
        raise AssertionError(f"docker {' '.join(words)} ended with {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout if check else done.stdout + done.stderr


def eventually(look: Callable[[], T], timeout: float = 30.0, every: float = 0.05) -> T:
    """The first true answer; fails the test when there is none in time."""
    limit = time.monotonic() + timeout
    while not (found := look()):
        if time.monotonic() > limit:
            raise AssertionError(f"after {timeout:g} s still {found!r}")
        time.sleep(every)
    return found


def image(content: str = "one", environ: Mapping[str, str] | None = None, name: str = "") -> str:
    """Build an image of busybox, once for each content, and return its name. What differs is ``/www/built``."""
    text = (_DOCKERFILE if _busybox() else _ELSEWHERE) + _REST.format(content=content)
    own = bool(name)
    name = name or f"deploy-guard-test:{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    usual = not environ or "DOCKER_HOST" not in environ
    if usual and name in _there:
        return name
    if docker("image", "ls", "--quiet", name, environ=environ).strip():
        if usual and not own:
            _there.add(name)
        return name
    with tempfile.TemporaryDirectory() as folder, _turn("build"):
        build_folder(Path(folder), content)
        env = {**(environ or {}), "DOCKER_BUILDKIT": "0"}
        docker("build", "--quiet", "--tag", name, folder, environ=env)
    return name


def build_folder(folder: Path, content: str) -> None:
    """Write what the image of :func:`image` is built of."""
    busybox = _busybox()
    (folder / "Dockerfile").write_text((_DOCKERFILE if busybox else _ELSEWHERE) + _REST.format(content=content))
    if busybox:
        shutil.copy(busybox, folder / "busybox")


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@functools.cache
def _busybox() -> str | None:
    path = shutil.which("busybox")
    if path is None:
        return None
    linked = subprocess.run(["ldd", path], capture_output=True, text=True)
    return path if "not a dynamic" in linked.stdout + linked.stderr else None


@contextlib.contextmanager
def _turn(what: str) -> Iterator[None]:
    path = Path(tempfile.gettempdir()) / f"deploy-guard-tests-{os.getuid()}-{what}.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="module")
def engine() -> None:
    """An engine with Compose; skips where there is none, and fails in CI."""
    if why := absent():
        missing(why)


@pytest.fixture
def shop(engine: None, tmp_path: Path) -> Iterator[Shop]:
    """A project of its own, removed at the end."""
    made = new_shop(tmp_path)
    yield made
    made.clean()


# One project for each test


@dataclass
class Shop:
    """A Compose project with a file of its own; ``ship`` does what a run does.

    :param at_first: the way to the engine as it was when the test began; a test may lead ``environ`` astray.
    """

    folder: Path
    project: str
    port: int
    config: Body = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    at_first: dict[str, str] = field(default_factory=dict)
    progress: list[str] = field(default_factory=list)
    _drivers: list[ComposeDriver] = field(default_factory=list)
    _plan: Plan | None = None

    # The file

    def write(self, services: Mapping[str, Body], name: str = "compose.yaml", **top: Any) -> Path:
        """Write a Compose file; JSON is YAML too."""
        path = self.folder / name
        made = {service: {**QUICK, **body} for service, body in services.items()}
        path.write_text(json.dumps({"services": made, **top}, indent=1))
        return path

    def web(self, content: str = "one", **more: Any) -> Body:
        """A service that answers with its version, at :attr:`served`."""
        return {
            "image": image(content, self.environ),
            "command": [SERVE],
            "environment": {"VERSION": "${VERSION}"},
            "ports": [f"127.0.0.1:{self.port}:80"],
            "healthcheck": HEALTHY,
            **more,
        }

    def worker(self, command: str = "sleep 1000", content: str = "one", **more: Any) -> Body:
        """A service that publishes nothing and has no healthcheck."""
        return {"image": image(content, self.environ), "command": [command], **more}

    # What a run does

    @property
    def driver(self) -> ComposeDriver:
        """A new one each time: nothing may depend on what an object remembers."""
        config = {"files": ["compose.yaml"], "project": self.project, "dwell": 0.3, "timeout": 60, **self.config}
        environ = {**os.environ, **self.environ}
        context = Context("shop", "stage", self.folder, environ, progress=self.progress.append)
        made = make_driver("compose", config, context)
        assert isinstance(made, ComposeDriver)
        self._drivers.append(made)
        return made

    def plan(self, version: str = "v1.0.0", commit: str | None = "c0ffee") -> Plan:
        self._plan = self.driver.plan(Release(version, commit))
        return self._plan

    def begin(self, version: str) -> Snapshot:
        """Plan and snapshot; the snapshot has been through a file."""
        self.plan(version)
        assert self._plan is not None
        return Snapshot.from_json(json.loads(json.dumps(self._drivers[-1].snapshot(self._plan).to_json())))

    def finish(self, seconds: float = 30) -> None:
        """Apply and wait."""
        assert self._plan is not None
        if not self._plan.unchanged:
            self._drivers[-1].apply(self._plan)
        self._drivers[-1].wait(self._plan, Deadline.after(seconds))

    def ship(self, version: str, seconds: float = 30) -> Snapshot:
        snapshot = self.begin(version)
        self.finish(seconds)
        return snapshot

    def back(self, snapshot: Snapshot, seconds: float = 30) -> None:
        driver = self.driver
        driver.rollback(snapshot, Deadline.after(seconds))
        driver.verify(snapshot, Deadline.after(seconds))

    def script(self, text: str) -> subprocess.Popen[str]:
        """Start another process, which has ``driver``, ``shop`` (this folder), ``Deadline``, ``Release``, ``Snapshot``."""
        config = {"files": ["compose.yaml"], "project": self.project, "dwell": 0.3, "timeout": 60, **self.config}
        path = self.folder / f"script-{uuid.uuid4().hex[:6]}.py"
        path.write_text(_SCRIPT + textwrap.dedent(text))
        return subprocess.Popen(
            [sys.executable, str(path), json.dumps(config)],
            cwd=self.folder,
            env={**os.environ, **self.environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    # What is there

    def docker(self, *words: str, check: bool = True) -> str:
        """As :func:`docker`, on this shop's engine."""
        return docker(*words, check=check, environ=self.environ)

    def compose(self, *words: str, version: str = "v0", check: bool = True) -> str:
        """Plain Compose, as somebody would type it."""
        environ = {"VERSION": version, "COMMIT": "c0ffee", "DEPLOY_ENV": "stage", **self.environ}
        file = str(self.folder / "compose.yaml")
        return docker("compose", "-p", self.project, "-f", file, *words, check=check, environ=environ)

    @property
    def containers(self) -> dict[str, Body]:
        """All containers of the project as ``docker inspect`` shows them, by name."""
        found = (self._engine.found(f"/containers/{one['Id']}/json") for one in self._list("containers", "compose"))
        return {one["Name"].removeprefix("/"): one for one in found if one is not None}

    def container(self, service: str, number: int = 1) -> Body:
        return self.containers[f"{self.project}-{service}-{number}"]

    @property
    def ids(self) -> dict[str, str]:
        return {name: one["Id"] for name, one in self.containers.items()}

    @property
    def services(self) -> dict[str, str]:
        """The state of each service's container."""
        found = {}
        for one in self.containers.values():
            health = (one["State"].get("Health") or {}).get("Status", "")
            found[one["Config"]["Labels"]["com.docker.compose.service"]] = health or one["State"]["Status"]
        return found

    def exec(self, service: str, command: str) -> str:
        return self.docker("exec", f"{self.project}-{service}-1", "sh", "-c", command).strip()

    @property
    def served(self) -> str | None:
        """The version that answers at the port, or None."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/version", timeout=2) as answer:
                return str(answer.read().decode().strip())
        except (OSError, urllib.error.URLError):
            return None

    @property
    def kept(self) -> list[str]:
        """What is kept in the engine for rollbacks of this project."""
        return sorted(one["Names"][0].removeprefix("/") for one in self._list("containers", "kept"))

    def clean(self) -> None:
        """Remove everything that this project made, and nothing else."""
        for driver in self._drivers:
            driver.close()
        for whose in ("compose", "kept"):
            for one in self._list("containers", whose):
                self._engine.delete(f"/containers/{one['Id']}", query={"force": "1", "v": "1"})
        for one in self._list("networks", "compose"):
            self._engine.delete(f"/networks/{one['Id']}")
        for one in self._list("volumes", "compose")["Volumes"] or ():
            self._engine.delete(f"/volumes/{one['Name']}")
        mine = (f"deploy-guard-kept:{self.project}-", f"{self.project}-", f"{self.project}:")
        names = [name for one in self._engine.get("/images/json") for name in one["RepoTags"] or ()]
        for name in names:
            if name.startswith(mine):
                self._engine.delete(f"/images/{name}")
        self._engine.close()

    @functools.cached_property
    def _engine(self) -> Engine:
        made = Engine(("docker",), {**os.environ, **self.at_first})
        made.version()
        return made

    def _list(self, what: str, whose: str) -> Any:
        """What is there of the project, of ``compose`` or of what is ``kept`` for rollbacks."""
        label = "com.docker.compose.project" if whose == "compose" else "deploy-guard.project"
        filters = json.dumps({"label": [f"{label}={self.project}"]})
        return self._engine.get(
            f"/{what}" + ("/json" if what == "containers" else ""), query={"all": "1", "filters": filters}
        )


def new_shop(folder: Path, environ: Mapping[str, str] | None = None) -> Shop:
    """A shop in a folder; the engine's way there is in ``environ`` where it is not the usual one."""
    return Shop(
        folder, f"dgt{uuid.uuid4().hex[:10]}", free_port(), environ=dict(environ or {}), at_first=dict(environ or {})
    )


_SCRIPT = """\
import json, os, pathlib, signal, sys, time
from deploy_guard.deadline import Deadline
from deploy_guard.drivers import make_driver
from deploy_guard.drivers.base import Context, Release, Snapshot
shop = pathlib.Path.cwd()
HOOKS = []
def progress(line):
    for hook in HOOKS:
        hook(line)
driver = make_driver("compose", json.loads(sys.argv[1]), Context("shop", "stage", shop, progress=progress))
def die(*_, **__):
    (shop / "died").touch()
    os.kill(os.getpid(), signal.SIGKILL)
def dies_after(owner, name):
    real = getattr(owner, name)
    def then_dies(*args, **words):
        real(*args, **words)
        die()
    setattr(owner, name, then_dies)
def begin(version):
    plan = driver.plan(Release(version, "c0ffee"))
    (shop / "snapshot.json").write_text(json.dumps(driver.snapshot(plan).to_json()))
    return plan
def snapshot():
    return Snapshot.from_json(json.loads((shop / "snapshot.json").read_text()))
"""


class Cable:
    """A socket between docker and its engine that can be cut and mended; for an engine on this machine only."""

    def __init__(self, folder: Path, engine: str = "/var/run/docker.sock") -> None:
        self.path = str(folder / "docker.sock")
        self._engine = engine
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._server: socket.socket | None = None
        self._lock = threading.Lock()
        self.mend()

    @property
    def environ(self) -> dict[str, str]:
        return {"DOCKER_HOST": f"unix://{self.path}"}

    def cut(self) -> None:
        """End every connection, and take no new one."""
        with self._lock:
            server, self._server = self._server, None
            pairs, self._pairs = self._pairs, []
        if server is not None:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()
            Path(self.path).unlink(missing_ok=True)
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Take connections again."""
        server = socket.socket(socket.AF_UNIX)
        server.bind(self.path)
        server.listen(64)
        self._server = server
        threading.Thread(target=self._serve, args=(server,), daemon=True).start()

    def _serve(self, server: socket.socket) -> None:
        while True:
            try:
                near, _ = server.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._engine)
            with self._lock:
                self._pairs.append((near, far))
            threading.Thread(target=self._copy, args=(near, far), daemon=True).start()

    @staticmethod
    def _copy(near: socket.socket, far: socket.socket) -> None:
        other = {near: far, far: near}
        with near, far, contextlib.suppress(OSError):
            while other:
                for source in select.select(list(other), [], [])[0]:
                    if chunk := source.recv(65536):
                        (far if source is near else near).sendall(chunk)
                    else:
                        del other[source]
                        (far if source is near else near).shutdown(socket.SHUT_WR)


class OwnEngine:
    """A second engine of the tests' own, which they may stop and start; needs root and ``dockerd``.

    It has a network of its own, or it would take the first one's bridge; its ports are not to be reached from here.
    """

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="dge-", dir="/tmp"))  # a socket's path must be short
        self.host = f"unix://{self.root}/docker.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def absent() -> str:
        """Why there can be none; empty where there can."""
        if os.getuid() != 0:
            return "a second engine needs root"
        return next((f"{tool} is not on the PATH" for tool in ("dockerd", "unshare") if not shutil.which(tool)), "")

    @property
    def environ(self) -> dict[str, str]:
        return {"DOCKER_HOST": self.host}

    def start(self) -> None:
        """Start it and wait until it answers."""
        (self.root / "docker.pid").unlink(missing_ok=True)
        folders = [
            "--data-root",
            f"{self.root}/data",
            "--exec-root",
            f"{self.root}/exec",
            "--pidfile",
            f"{self.root}/docker.pid",
        ]
        command = ["dockerd", *folders, "--host", self.host, "--iptables=false", "--shutdown-timeout", "5"]
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["unshare", "--net", *command],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(lambda: "Server Version" in docker("info", check=False, environ=self.environ), 60, 0.2)

    def stop(self) -> None:
        """End it, as a machine that shuts down does: its containers end with it."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(60)

    def remove(self) -> None:
        """End it and remove all of it."""
        self.stop()
        for line in Path("/proc/mounts").read_text().splitlines():
            if (path := line.split()[1]).startswith(f"{self.root}/"):
                subprocess.run(["umount", "--lazy", path], check=False)
        shutil.rmtree(self.root, ignore_errors=True)
