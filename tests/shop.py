"""A small shop as its team has it: manifests, gates and a configuration, released to a real cluster by a subprocess."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kube
from conftest import Project, Result

IMAGE = "test.local/shop"
PASSWORD = "correct-horse-battery"
"""The plain value of the Secret that each release holds, followed by the version."""
SERVER_SET = ("resourceVersion", "uid", "generation", "creationTimestamp", "managedFields", "selfLink")
KINDS = "configmaps,secrets,services,deployments,jobs"

APP = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
data:
  greeting: hello from ${VERSION}
  nginx: proxy_set_header Host ${host};
---
apiVersion: v1
kind: Secret
metadata:
  name: credentials
stringData:
  password: PASSWORD-${VERSION}
---
apiVersion: v1
kind: Service
metadata:
  name: shop
spec:
  selector: {app: shop}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: shop
spec:
  progressDeadlineSeconds: 60
  selector:
    matchLabels: {app: shop}
  template:
    metadata:
      labels: {app: shop}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: shop
        image: IMAGE:${VERSION}
        imagePullPolicy: IfNotPresent
        envFrom:
        - configMapRef: {name: settings}
        - secretRef: {name: credentials}
        readinessProbe:
          httpGet: {path: /version, port: 8080}
          periodSeconds: 1
"""

CHECKS = '''
import os
import subprocess
import time

from deploy_guard import gate, post_check

VERSION = "/api/v1/namespaces/NAMESPACE/services/shop:http/proxy/version"


@gate("critical")
def test_the_cluster_has_room():
    """A gate before the rollout."""


@post_check("critical")
def test_the_service_reports_the_release(release):
    limit = time.monotonic() + 10
    while (said := asked()) != release.version and time.monotonic() < limit:
        time.sleep(0.2)
    assert said == release.version


@post_check("critical")
def test_nothing_was_told_to_fail():
    assert os.environ.get("CHECK") != "fails"


def asked():
    argv = ["kubectl", "--context", "CONTEXT", "get", "--raw", VERSION]
    return subprocess.run(argv, capture_output=True, text=True, timeout=20).stdout
'''


@dataclass
class Shop(Project):
    """A project whose environment ``prod`` is a namespace of the test cluster."""

    namespace: kube.Namespace = field(default_factory=lambda: kube.Namespace("none"))

    @classmethod
    def new(cls, root: Path, namespace: kube.Namespace) -> Shop:
        """Write everything; the images of two versions are in the cluster."""
        made = cls(root, namespace=namespace)
        for version in ("v1.0.0", "v2.0.0"):
            kube.image(f"{IMAGE}:{version}")
        made.configure()
        made.manifest("app.yaml", APP.replace("IMAGE", IMAGE).replace("PASSWORD", PASSWORD))
        made.write("gates/test_shop.py", CHECKS.replace("NAMESPACE", namespace.name).replace("CONTEXT", kube.context()))
        return made

    def configure(self, *lines: str) -> None:
        """Write the configuration, with more lines for the driver's table."""
        self.write(
            "deploy-guard.toml",
            "\n".join(
                (
                    'name = "shop"',
                    "[env.prod]",
                    'driver = "kubernetes"',
                    "release-guard = false",
                    'timeout = "90s"',
                    "[env.prod.kubernetes]",
                    f'context = "{kube.context()}"',
                    f'namespace = "{self.namespace.name}"',
                    'manifests = ["k8s/*.yaml"]',
                    *lines,
                )
            )
            + "\n",
        )

    def manifest(self, name: str, *documents: str | kube.Body) -> Path:
        """Write a file of manifests: YAML as text, or objects."""
        texts = [one if isinstance(one, str) else json.dumps(one) for one in documents]
        return self.write(f"k8s/{name}", "\n---\n".join(texts))

    def edit(self, old: str, new: str, name: str = "app.yaml") -> None:
        """Change a manifest."""
        file = self.root / "k8s" / name
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def settings(self, number: int) -> None:
        """Add that many ConfigMaps, so that apply takes a while; each holds the version."""
        listed = [kube.config_map(f"part-{n:03}", version="${VERSION}") for n in range(number)]
        self.manifest("parts.yaml", {"apiVersion": "v1", "kind": "List", "items": listed})

    # Runs

    def release(self, version: str, timeout: float = 150, **more: str) -> Result:
        """``pytest --deploy-env=prod gates``, to its end."""
        return self.run("gates", env="prod", timeout=timeout, more={**more, "VERSION": version})

    def shipped(self, version: str = "v1.0.0") -> Shop:
        """Release a version that works."""
        result = self.release(version)
        assert (result.code, result.outcome) == (0, "shipped"), result.out
        return self

    def start(self, *args: str, env: str = "prod", **more: str) -> subprocess.Popen[str]:
        """Start a run; the trail of the one before is put away, so that :meth:`until` can't take it for this one's."""
        (self.root / f"reports/{env}/audit.jsonl").unlink(missing_ok=True)
        return super().start(*args, env=env, **more)

    def until(self, step: str, state: str = "intent", timeout: float = 60) -> None:
        """Wait until the run under way has begun a step, by its audit trail."""
        file = self.root / "reports/prod/audit.jsonl"
        limit = time.monotonic() + timeout
        while not any(one["event"] == step and one["state"] == state for one in _events(file)):
            assert time.monotonic() < limit, f"{step} did not come: {_events(file)}"
            time.sleep(0.005)

    # What is in the cluster

    def state(self) -> dict[str, Any]:
        """Every object as somebody wants it: without status and what the server sets; what is deploy-guard's own is out."""
        found = {}
        for body in self.namespace.all(KINDS):
            meta = body["metadata"]
            if meta["name"].startswith("deploy-guard-") or meta["name"] == "kube-root-ca.crt":
                continue
            body.pop("status", None)
            for key in SERVER_SET:
                meta.pop(key, None)
            meta.get("annotations", {}).pop("deployment.kubernetes.io/revision", None)
            if not meta.get("annotations", True):
                del meta["annotations"]
            found[f"{body['kind']}/{meta['name']}"] = body
        return found

    def image_ids(self) -> set[str]:
        """What really runs."""
        pods = self.namespace.pods("app=shop")
        return {status["imageID"] for pod in pods for status in pod["status"].get("containerStatuses", [])}

    def own(self) -> list[str]:
        """What deploy-guard keeps in the namespace for itself."""
        secrets = self.namespace.all("secrets")
        return sorted(n for one in secrets if (n := one["metadata"]["name"]).startswith("deploy-guard-"))

    def quiet_versions(self) -> dict[str, str]:
        """The resource versions, once no controller is at work any more."""
        before: dict[str, str] = {}
        while (now := self.namespace.versions()) != before:
            before = now
            time.sleep(1.5)
        return now

    def kubectl_children(self) -> dict[int, str]:
        """The kubectl processes that work for this namespace."""
        return {n: line for n, line in kube.processes(self.namespace.name).items() if "kubectl" in line}

    def files_with(self, *values: str, besides: Sequence[str] = ("k8s",)) -> list[str]:
        """The files of the runs that hold a value, plain or in base64."""
        wanted = [form for value in values for form in (value.encode(), base64.b64encode(value.encode()))]
        return [
            str(path.relative_to(self.root))
            for path in self.root.rglob("*")
            if path.is_file() and path.relative_to(self.root).parts[0] not in besides
            if any(one in path.read_bytes() for one in wanted)
        ]


def _events(file: Path) -> list[Mapping[str, Any]]:
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
