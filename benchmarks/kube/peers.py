"""Helm and kapp, built once by name from their Go modules, and how each tool is told to release."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from kube.cluster import CONTEXT, Space

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deploy-guard-benchmarks"
MODULES = {
    "helm": ("helm.sh/helm/v4", "cmd/helm", "v4.3.1"),
    "kapp": ("carvel.dev/kapp", "cmd/kapp", "v0.64.2"),
}


def built(name: str) -> Path | str:
    """Return the program, or the reason why there is none; the first time it is built, which takes minutes."""
    module, package, version = MODULES[name]
    program = CACHE / f"{name}-{version}"
    if program.exists():
        return program
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        return "no Go here to build it with"
    CACHE.mkdir(parents=True, exist_ok=True)
    print(f"building {name} {version}, once: some minutes", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        # A module of our own that requires it: `go install` asks the proxy for more, which some don't answer.
        Path(folder, "go.mod").write_text(f"module peers\n\ngo 1.24.0\n\nrequire {module} {version}\n")
        argv = ["nice", go, "build", "-mod=mod", "-o", f"{program}.new", f"{module}/{package}"]
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=1800)
    if done.returncode:
        return f"it could not be built: {(done.stderr.splitlines() or ['?'])[-1]}"
    Path(f"{program}.new").rename(program)
    return program


class Peers:
    """The tools that are there; ``missing`` says why others are not."""

    def __init__(self, *, short: bool) -> None:
        self.programs: dict[str, Path] = {}
        self.missing: dict[str, str] = {}
        for name in MODULES:
            found = "left out of the short form" if short else built(name)
            if isinstance(found, Path):
                self.programs[name] = found
            else:
                self.missing[name] = found

    @property
    def names(self) -> list[str]:
        return ["kubectl", *self.programs]

    def version(self, name: str) -> str:
        return MODULES[name][2]

    def release(self, name: str, space: Space, limit: str = "") -> list[list[str]]:
        """Return the commands that release the space's manifests and wait; ``limit`` as in ``20s``."""
        folder = str(space.folder / "k8s")
        if name == "kubectl":
            base = ["kubectl", "--context", CONTEXT, "-n", space.name]
            status = [*base, "rollout", "status", "deployment/shop", *([f"--timeout={limit}"] if limit else [])]
            return [[*base, "apply", "--server-side", "-f", folder], status]
        if name == "helm":
            return [[*self.helm(space, "upgrade", "--install", "shop", self.chart(space), "--wait"), *_limit(limit)]]
        wait = [f"--wait-timeout={limit}"] if limit else []
        return [[*self.kapp(space), *wait]]

    def apply(self, name: str, space: Space) -> list[str]:
        """Return the command that applies the space's manifests without waiting."""
        if name == "helm":
            return self.helm(space, "upgrade", "--install", "shop", self.chart(space))
        return [*self.kapp(space), "--wait=false"]

    def helm(self, space: Space, *words: str) -> list[str]:
        return [str(self.programs["helm"]), "--kube-context", CONTEXT, "-n", space.name, *words]

    def kapp(self, space: Space) -> list[str]:
        where = ["--kubeconfig-context", CONTEXT, "-n", space.name, "-a", "bench", "-f", str(space.folder / "k8s")]
        return [str(self.programs["kapp"]), "deploy", "--yes", *where]

    def chart(self, space: Space) -> str:
        """Write the manifests as a chart, without anything to be filled in."""
        chart = space.folder / "chart"
        (chart / "templates").mkdir(parents=True, exist_ok=True)
        (chart / "Chart.yaml").write_text("apiVersion: v2\nname: shop\nversion: 0.1.0\n")
        listed = json.loads((space.folder / "k8s/all.json").read_text())["items"]
        (chart / "templates/all.yaml").write_text("\n---\n".join(map(json.dumps, listed)))
        return str(chart)


def _limit(limit: str) -> list[str]:
    return [f"--timeout={limit}"] if limit else []


def timed(commands: Sequence[Sequence[str]], *, cap: float = 600.0, codes: Sequence[int] | None = (0,)) -> float:
    """Run commands one after another, and return their time; at ``cap`` they are ended, and the cap is returned."""
    began = time.monotonic()
    for argv in commands:
        left = began + cap - time.monotonic()
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=max(0.1, left))
        except subprocess.TimeoutExpired:
            return cap
        if codes is not None and done.returncode not in codes:
            raise RuntimeError(f"{' '.join(argv)} ended with {done.returncode}: {(done.stderr or done.stdout)[-2000:]}")
        if done.returncode:
            break
    return time.monotonic() - began
