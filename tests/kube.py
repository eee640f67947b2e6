"""A real cluster for tests: the context named in DEPLOY_GUARD_TEST_KUBECONTEXT, a namespace for each test.

Where there is none a test skips and says why; in CI (``CI=true``) it fails. Every test that uses the cluster holds
``shared()``; one that stops its API server holds ``exclusive()``: so they never run at the same time, whichever process
of pytest-xdist they are in. The fixtures are in ``tests/integration/kubernetes/conftest.py``.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import functools
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import pytest

T = TypeVar("T")
Body = dict[str, Any]

PAUSE = "test.local/pause:1"
"""An image that is in the test cluster from the start and does nothing; for others use :func:`image`."""
SERVICES = Path(os.environ.get("DG_SERVICES_HOME") or Path.home() / ".cache/deploy-guard-services") / "run"
_SHARED = Path(tempfile.gettempdir()) / f"deploy-guard-tests-{os.getuid()}"
_WATCHED = (
    "configmaps,secrets,services,serviceaccounts,persistentvolumeclaims,roles,rolebindings,deployments,replicasets,"
)
_WATCHED += "statefulsets,daemonsets,jobs,pods,horizontalpodautoscalers,ingresses,networkpolicies,controllerrevisions"


# Where the cluster is


def context() -> str:
    """The kube context that tests may use; skips the test where there is none, and fails it in CI."""
    named = os.environ.get("DEPLOY_GUARD_TEST_KUBECONTEXT")
    if not named:
        missing(
            "DEPLOY_GUARD_TEST_KUBECONTEXT names no kube context: start a cluster (kind, k3d), and name its context"
        )
    if shutil.which("kubectl") is None:
        missing("kubectl is not on the PATH")
    return named


def missing(why: str) -> NoReturn:
    """Skip the test that asks; in CI nothing skips, so fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"in CI this may not be missing: {why}", pytrace=False)
    pytest.skip(why)


def kubectl(*words: str, stdin: str | None = None, check: bool = True, timeout: float = 60.0) -> str:
    """What kubectl says, run against the test's context; with ``check=False`` its complaint is part of the answer."""
    done = subprocess.run(
        ["kubectl", "--context", context(), *words], input=stdin, capture_output=True, text=True, timeout=timeout
    )
    if check and done.returncode:
        raise AssertionError(f"kubectl {' '.join(words)} ended with {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout if check else done.stdout + done.stderr


def eventually(look: Callable[[], T], timeout: float = 30.0, every: float = 0.1) -> T:
    """The first true answer; fails the test when there is none in time."""
    limit = time.monotonic() + timeout
    while not (found := look()):
        if time.monotonic() > limit:
            raise AssertionError(f"after {timeout:g} s still {found!r}")
        time.sleep(every)
    return found


# One namespace for each test


@dataclass(frozen=True)
class Namespace:
    """A namespace that a test has for itself."""

    name: str

    @classmethod
    @contextmanager
    def new(cls, label: str = "test") -> Iterator[Namespace]:
        """A new namespace with a name of its own; deleted at the end, without waiting for it."""
        made = cls(f"dg-{label}-{uuid.uuid4().hex[:8]}")
        kubectl("create", "namespace", made.name)
        try:
            # A pod that is created before it gets an error, and controllers back off for seconds.
            eventually(lambda: made.find("serviceaccount", "default"), 30)
            yield made
        finally:
            kubectl("delete", "namespace", made.name, "--wait=false", "--ignore-not-found", check=False)

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True, timeout: float = 60.0) -> str:
        """As :func:`kubectl`, in this namespace."""
        return kubectl("--namespace", self.name, *words, stdin=stdin, check=check, timeout=timeout)

    def apply(self, *bodies: Body, server_side: bool = True, manager: str = "a-test") -> None:
        """Apply objects with kubectl, as somebody else would; ``server_side=False`` is the client-side apply."""
        words = ["--server-side", "--force-conflicts", f"--field-manager={manager}"] if server_side else []
        listed = {"apiVersion": "v1", "kind": "List", "items": list(bodies)}
        self.kubectl("apply", *words, "-f", "-", stdin=json.dumps(listed))

    def find(self, kind: str, name: str) -> Body | None:
        """An object with everything the server knows of it; None where there is none."""
        text = self.kubectl("get", kind, name, "--ignore-not-found", "--show-managed-fields", "-o", "json")
        found: Body | None = json.loads(text) if text.strip() else None
        return found

    def get(self, kind: str, name: str) -> Body:
        """An object that is there."""
        found = self.find(kind, name)
        assert found is not None, f"there is no {kind}/{name} in {self.name}"
        return found

    def all(self, kinds: str, *words: str) -> list[Body]:
        """All objects of some kinds: ``pods``, ``deployments,services``."""
        found: list[Body] = json.loads(self.kubectl("get", kinds, *words, "-o", "json"))["items"]
        return found

    def versions(self) -> dict[str, str]:
        """The resourceVersion of everything here: two equal answers mean that nothing was changed."""
        return {
            f"{one['kind']}/{one['metadata']['name']}": one["metadata"]["resourceVersion"] for one in self.all(_WATCHED)
        }

    def pods(self, selector: str = "") -> list[Body]:
        """The pods here, those that are being deleted left out."""
        found = self.all("pods", *(["-l", selector] if selector else []))
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def account(self, rules: Sequence[Mapping[str, Any]], folder: Path, name: str = "deployer") -> Path:
        """A service account that may do just that in this namespace; returns its kubeconfig, context :func:`context`.

        :param rules: those of a Role: ``{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "patch"]}``.
        """
        api = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name}}
        subject = {"kind": "ServiceAccount", "name": name, "namespace": self.name}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        self.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
            api | {"kind": "Role", "rules": list(rules)},
            api | {"kind": "RoleBinding", "roleRef": reference, "subjects": [subject]},
        )
        return kubeconfig(folder / f"{name}.kubeconfig", token=self.kubectl("create", "token", name).strip())


# Objects


def deployment(name: str, image: str, *, command: Sequence[str] = (), replicas: int = 1, **container: Any) -> Body:
    """A Deployment whose pods end quickly; ``container`` are more fields of its container."""
    labels = {"app": name}
    pod = {
        "terminationGracePeriodSeconds": 1,
        "containers": [_container("main", image, command) | container],
    }
    spec = {
        "replicas": replicas,
        "progressDeadlineSeconds": 60,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def job(name: str, image: str, command: Sequence[str], *, phase: str = "", retries: int = 0) -> Body:
    """A Job that runs a command; ``phase`` is ``before`` or ``after``."""
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "containers": [_container("main", image, command)],
    }
    meta: Body = {"name": name}
    if phase:
        meta["annotations"] = {"deploy-guard/phase": phase}
    spec = {"backoffLimit": retries, "template": {"spec": pod}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec}


def config_map(name: str, **data: str) -> Body:
    """A ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name: str, **data: str) -> Body:
    """A Secret; values as plain text."""
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}


def _container(name: str, image: str, command: Sequence[str]) -> Body:
    made: Body = {"name": name, "image": image, "imagePullPolicy": "IfNotPresent"}
    return made | ({"command": list(command)} if command else {})


# Images


def image(name: str, version: str = "") -> str:
    """Build a busybox image, load it into the cluster, and return its name; done once for all processes.

    It has busybox's commands in ``/bin``, and serves ``/www`` on port 8080 (``/version`` says ``version``, by default
    the tag) unless the pod names another command: ``["sh", "-c", "echo no; exit 3"]``, ``["sleep", "1000"]``. Another
    ``version`` under the same name makes it mean another image.
    """
    version = version or name.rpartition(":")[2]
    here = context()
    with _locked("images", fcntl.LOCK_EX):
        flag = _SHARED / f"image-{_digest(_cluster(here), name)}"
        if not flag.exists() or flag.read_text() != version:
            _build(name, version)
            _load(here, name)
            flag.write_text(version)
    return name


def _build(name: str, version: str) -> None:
    busybox = shutil.which("busybox")
    if busybox is None or shutil.which("docker") is None:
        missing("building images for the cluster needs docker and a static busybox (busybox-static)")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "bin").mkdir()
        (place / "www").mkdir()
        shutil.copy(busybox, place / "bin/busybox")
        listed = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
        for applet in listed:
            if applet != "busybox":
                (place / "bin" / applet).symlink_to("busybox")
        (place / "www/version").write_text(version)
        (place / "www/index.html").write_text(f"{version}\n")
        lines = ["FROM scratch", "COPY bin /bin", "COPY www /www", 'ENV PATH="/bin"']
        lines.append('CMD ["httpd", "-f", "-p", "8080", "-h", "/www"]')
        (place / "Dockerfile").write_text("\n".join(lines) + "\n")
        _run(["docker", "build", "-q", "-t", name, folder])


def _load(here: str, name: str) -> None:
    """Bring it into the cluster; how depends on what kind of cluster it is."""
    places = [folder / "shared/services/load-image" for folder in Path(__file__).resolve().parents]
    tool = next(filter(Path.exists, places), None)
    if here.startswith("kind-"):
        _run(["kind", "load", "docker-image", "--name", here.removeprefix("kind-"), name])
    elif here.startswith("k3d-"):
        _run(["k3d", "image", "import", "-c", here.removeprefix("k3d-"), name])
    elif tool is not None:
        _run([str(tool), name])
    else:
        missing(f"don't know how images are loaded into the cluster of the context {here}")


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr or done.stdout}"


@functools.cache
def _cluster(_context: str) -> str:
    return kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")


def _digest(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]


# Credentials and addresses of one's own


def kubeconfig(path: Path, *, token: str | None = None, server: str | None = None) -> Path:
    """Write a kubeconfig for the test's cluster, with its context's name; other credentials or another address."""
    here = context()
    text = kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json")
    found = json.loads(text)
    if token is not None:
        found["users"] = [{"name": user["name"], "user": {"token": token}} for user in found["users"]]
    if server is not None:
        for cluster in found["clusters"]:
            named = urlsplit(cluster["cluster"]["server"]).hostname
            cluster["cluster"] |= {
                "server": server,
                "tls-server-name": cluster["cluster"].get("tls-server-name", named),
            }
    found["current-context"] = here
    path.touch(mode=0o600)
    path.write_text(json.dumps(found))
    return path


def server() -> tuple[str, int]:
    """Host and port of the API server."""
    text = kubectl("config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}")
    parts = urlsplit(text.strip())
    return parts.hostname or "", parts.port or 443


class Relay:
    """A TCP relay before the API server, for one test alone: its server goes away without harm to the others'.

    ``kubeconfig`` leads through it. ``stall()``: connections are taken and nothing comes. ``refuse()``: connections
    are cut and refused. ``resume()``: as before.
    """

    def __init__(self, folder: Path) -> None:
        self._target = server()
        self._flows = threading.Event()
        self._flows.set()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._port = 0
        self._listen()
        self.address = f"https://127.0.0.1:{self._port}"
        self.kubeconfig = kubeconfig(folder / "relay.kubeconfig", server=self.address)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_error: object) -> None:
        self.refuse()
        self._flows.set()

    def stall(self) -> None:
        """Let nothing through; connections stay open."""
        self._flows.clear()

    def refuse(self) -> None:
        """Cut what is open, and refuse what comes."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def resume(self) -> None:
        """Go on."""
        self._flows.set()
        if self._listener is None:
            self._listen()

    def _listen(self) -> None:
        listener = socket.create_server(("127.0.0.1", self._port), backlog=128)
        self._port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(self._target)
                with self._lock:
                    self._open |= {near, far}
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                self._flows.wait()
                sink.sendall(chunk)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        with self._lock:
            if source in self._open:
                self._open.discard(source)
                source.close()


# Taking turns, and stopping the API server


@contextmanager
def shared() -> Iterator[None]:
    """Held by each test that needs a cluster that answers; waits while one stops the API server."""
    with _locked("turnstile", fcntl.LOCK_EX):  # who waits for exclusive() holds it, and so is not passed for ever
        room = _lock("cluster", fcntl.LOCK_SH)
    try:
        yield
    finally:
        os.close(room)


@contextmanager
def exclusive() -> Iterator[None]:
    """Held by a test that stops the API server; nobody else may hold it or :func:`shared`, in any process."""
    with _locked("turnstile", fcntl.LOCK_EX), _locked("cluster", fcntl.LOCK_EX):
        yield


@contextmanager
def pause_api_server() -> Iterator[None]:
    """Freeze the API server (SIGSTOP); hold :func:`exclusive` meanwhile. It goes on even if this process is killed."""
    number = _api_server()
    script = "kill -STOP $0 && echo stopped; read _; kill -CONT $0"
    keeper = subprocess.Popen(
        ["sh", "-c", script, str(number)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    with keeper:
        try:
            assert keeper.stdout.readline() == b"stopped\n"
            yield
        finally:
            keeper.stdin.close()
            keeper.wait()


def _api_server() -> int:
    file = SERVICES / "pid/kube-apiserver"
    try:
        number = int(file.read_text())
        os.kill(number, 0)
    except (OSError, ValueError):
        missing(f"the API server is not a process of this machine that may be stopped: {file} does not name it")
    return number


@contextmanager
def _locked(name: str, kind: int) -> Iterator[None]:
    handle = _lock(name, kind)
    try:
        yield
    finally:
        os.close(handle)


def _lock(name: str, kind: int) -> int:
    _SHARED.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(_SHARED / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(handle, kind)
    return handle


# Processes


def processes(word: str) -> dict[int, str]:
    """Processes of this machine whose command line holds a word, zombies left out (Linux)."""
    found = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit() and int(place.name) != os.getpid():
            with contextlib.suppress(OSError):
                line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if word in line:
                    found[int(place.name)] = line
    return found


def stop(number: int, with_signal: int = signal.SIGKILL) -> None:
    """Send a signal to a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, with_signal)


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        print(image(wanted))
