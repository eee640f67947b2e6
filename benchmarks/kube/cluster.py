"""The cluster that is measured on: kubectl, a namespace of one's own, and an independent look at its pods."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Body = dict[str, Any]
Row = tuple[str, str, str, str]
"""What, what deploy-guard does, what others do, and what is to be reached."""

CONTEXT = os.environ.get("DEPLOY_GUARD_TEST_KUBECONTEXT", "")
SERVER_SET = ("resourceVersion", "uid", "generation", "creationTimestamp", "managedFields", "selfLink")


class Failed(Exception):
    """A command that must work did not: the figures would mean nothing."""


def kubectl(*words: str, stdin: str | None = None, timeout: float = 600.0) -> str:
    argv = ["kubectl", "--context", CONTEXT, *words]
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=timeout)
    if done.returncode:
        raise Failed(f"{' '.join(argv)} ended with {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout


@dataclass(frozen=True)
class Space:
    """A namespace of a measurement's own, and a folder of manifests for it."""

    name: str
    folder: Path

    @classmethod
    @contextmanager
    def new(cls, top: Path, label: str) -> Iterator[Space]:
        """Return a new one; deleted at the end, without waiting for it."""
        name = f"dg-bench-{label}-{uuid.uuid4().hex[:6]}"
        folder = top / name
        (folder / "k8s").mkdir(parents=True)
        made = cls(name, folder)
        kubectl("create", "namespace", name)
        try:
            while not made.kubectl("get", "serviceaccounts", "default", "--ignore-not-found", "-o", "name"):
                time.sleep(0.1)  # pods that come before it are refused, and controllers back off for seconds
            yield made
        finally:
            with contextlib.suppress(Failed):
                made.empty()
                kubectl("delete", "namespace", name, "--wait=false")

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        return kubectl("-n", self.name, *words, stdin=stdin)

    def write(self, *bodies: Body) -> Path:
        """Make these the manifests; returns the folder."""
        (self.folder / "k8s/all.json").write_text(
            json.dumps({"apiVersion": "v1", "kind": "List", "items": list(bodies)})
        )
        return self.folder / "k8s"

    def empty(self) -> None:
        """Delete all ConfigMaps and Secrets, each kind by one request."""
        for kind in ("configmaps", "secrets"):
            self.kubectl("delete", "--raw", f"/api/v1/namespaces/{self.name}/{kind}")

    def state(self) -> dict[str, Body]:
        """Everything as somebody wants it: without status and what the server sets, and without the tools' records."""
        kinds = "configmaps,secrets,services,serviceaccounts,deployments"
        found = {}
        for body in json.loads(self.kubectl("get", kinds, "-o", "json"))["items"]:
            meta = body["metadata"]
            record = meta["name"].startswith(("deploy-guard-", "sh.helm.release."))
            if record or meta["name"] in ("kube-root-ca.crt", "default"):
                continue
            body.pop("status", None)
            for key in SERVER_SET:
                meta.pop(key, None)
            notes = meta.get("annotations", {})
            for key in ("deployment.kubernetes.io/revision", "kubectl.kubernetes.io/last-applied-configuration"):
                notes.pop(key, None)
            if not notes:
                meta.pop("annotations", None)
            found[f"{body['kind']}/{meta['name']}"] = body
        return found


def differing(before: Mapping[str, Body], after: Mapping[str, Body]) -> list[str]:
    """Return the names of objects that are not what they were."""
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


# The driver


@dataclass(frozen=True)
class Run:
    """What ``once.py`` did; all times are of the one monotonic clock of the machine."""

    began: float
    ended: float
    steps: Mapping[str, Sequence[float]]
    error: str
    failed: str
    memory: float

    def seconds(self, *steps: str) -> float:
        return sum(self.steps[name][1] - self.steps[name][0] for name in steps)


def driver(space: Space, steps: Sequence[str], *, version: str = "v1", dooms: bool = False, **table: object) -> Run:
    """Run steps of the driver in a process of its own."""
    asked = {
        "table": {"context": CONTEXT, "namespace": space.name, "manifests": ["k8s/all.json"], **table},
        "folder": str(space.folder),
        "steps": list(steps),
        "version": version,
    }
    argv = [sys.executable, str(Path(__file__).with_name("once.py"))]
    began = time.monotonic()
    done = subprocess.run(argv, input=json.dumps(asked), capture_output=True, text=True, timeout=1200)
    ended = time.monotonic()
    if done.returncode:
        raise Failed(f"the driver ended with {done.returncode}: {done.stderr[-3000:]}")
    said = json.loads(done.stdout.splitlines()[-1])
    if bool(said["failed"]) is not dooms:
        raise Failed(f"the driver was {'not ' if dooms else ''}expected to work: {said['failed']}: {said['error']}")
    return Run(began, ended, said["steps"], said["error"], said["failed"], said["memory"])


# Looking at pods


class Watch:
    """Watches the pods of a namespace in a thread, and notes when something is first seen in one of them."""

    def __init__(self, space: Space, sought: Callable[[Body], bool]) -> None:
        argv = ["kubectl", "--context", CONTEXT, "-n", space.name, "get", "pods", "-w", "-o", "json"]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._sought = sought
        self.seen = threading.Event()
        self.at = 0.0
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.terminate()
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        decoder, text = json.JSONDecoder(), ""
        while chunk := os.read(self._process.stdout.fileno(), 1 << 16):
            now = time.monotonic()
            text += chunk.decode()
            while text := text.lstrip():
                try:
                    body, end = decoder.raw_decode(text)
                except ValueError:  # the rest of it is still to come
                    break
                text = text[end:]
                if not self.seen.is_set() and any(map(self._sought, body.get("items", [body]))):
                    self.at = now
                    self.seen.set()


def containers(pod: Body) -> list[Body]:
    """Return the statuses of a pod's containers."""
    found: list[Body] = pod.get("status", {}).get("containerStatuses", [])
    return found


# Figures


def interleaved(number: int, runs: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Run each in turn, so that a busy machine slows all of them; the order changes from turn to turn."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for turn in range(number):
        for name in names if turn % 2 else reversed(names):
            found[name].append(runs[name]())
    return found


def ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the median of the ratios of pairs."""
    return statistics.median(a / b for a, b in zip(one, other, strict=False))


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def load() -> str:
    return f"{os.getloadavg()[0]:.1f}"
