"""Where the driver deploys to: a context and a namespace, both named by the user, never the ambient ones."""

from __future__ import annotations

import json
import shlex
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy_guard import process
from deploy_guard.drivers.base import Context
from deploy_guard.drivers.kubernetes.config import IN_CLUSTER, KubernetesConfig
from deploy_guard.errors import CommandFailed, ConfigurationError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds the token, the CA and the namespace of its service account."""
_HOST = "KUBERNETES_SERVICE_HOST"


@dataclass(frozen=True)
class Target:
    """One namespace of one cluster.

    :param context: the kubeconfig's context, or ``in-cluster``.
    :param kubeconfig: for ``in-cluster`` the private file that kubectl reads; it is there while a connection is open.
        Else None: kubectl finds its configuration as ever.
    """

    context: str
    namespace: str
    kubeconfig: Path | None = None

    @classmethod
    def pinned(cls, config: KubernetesConfig, context: Context) -> Target:
        """Return the target that the configuration or the command line names; asks no cluster.

        In a pod that has a service account and no kubeconfig, a context that is not named means its own cluster, and
        a namespace that is not named its own namespace.

        :raises ConfigurationError: when it is not named; the message says what to type.
        """
        name, namespace = config.context, config.namespace
        if name is None and _in_pod(context.environ):
            name = IN_CLUSTER
        if name == IN_CLUSTER and namespace is None:
            namespace = _own_namespace()
        if not name or not namespace:
            raise _unpinned(config, context)
        return cls(name, namespace, private_path(context.environ) if name == IN_CLUSTER else None)

    def kubectl(self, *words: str) -> tuple[str, ...]:
        """Return the command that does it there: ``kubectl --context C --namespace NS …``."""
        file = () if self.kubeconfig is None else ("--kubeconfig", str(self.kubeconfig))
        return ("kubectl", *file, "--context", self.context, "--namespace", self.namespace, *words)

    def shown(self, *words: str) -> str:
        """Return the same for people: a line to type. In a pod kubectl finds the cluster by itself."""
        where = () if self.context == IN_CLUSTER else ("--context", self.context)
        return shlex.join(("kubectl", *where, "-n", self.namespace, *words))

    def write_kubeconfig(self, environ: Mapping[str, str]) -> None:
        """Write the kubeconfig of a pod's service account; only its user may read it.

        It holds no credentials: kubectl reads the token from the pod's own file, again and again as it is renewed.

        :raises CommandFailed: when this is no pod.
        """
        assert self.kubeconfig is not None  # only called for in-cluster
        host, token = environ.get(_HOST), SERVICE_ACCOUNT / "token"
        if not host or not token.is_file():
            lacking = f"{_HOST} is not set" if not host else f"there is no {token}"
            raise CommandFailed(
                f"the context is {IN_CLUSTER}, but this is not a pod that has a service account: {lacking}",
                hint="run in a pod whose spec does not say automountServiceAccountToken: false, or name the context "
                "of your kubeconfig",
            )
        if ":" in host:  # IPv6
            host = f"[{host}]"
        server = f"https://{host}:{environ.get('KUBERNETES_SERVICE_PORT', '443')}"
        cluster = {"server": server, "certificate-authority": str(SERVICE_ACCOUNT / "ca.crt")}
        body = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": self.context,
            "clusters": [{"name": self.context, "cluster": cluster}],
            "users": [{"name": self.context, "user": {"tokenFile": str(token)}}],
            "contexts": [{"name": self.context, "context": {"cluster": self.context, "user": self.context}}],
        }
        self.kubeconfig.parent.mkdir(mode=0o700)
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(json.dumps(body))

    def remove_kubeconfig(self) -> None:
        """Remove what :meth:`write_kubeconfig` wrote."""
        if self.kubeconfig is not None:
            self.kubeconfig.unlink(missing_ok=True)
            if self.kubeconfig.parent.is_dir():
                self.kubeconfig.parent.rmdir()


def _in_pod(environ: Mapping[str, str]) -> bool:
    """True in a pod with a service account, unless a kubeconfig says that another cluster is meant."""
    if not environ.get(_HOST) or not (SERVICE_ACCOUNT / "token").is_file():
        return False
    home = environ.get("HOME")
    return not environ.get("KUBECONFIG") and not (home and Path(home, ".kube", "config").is_file())


def _own_namespace() -> str | None:
    try:
        return (SERVICE_ACCOUNT / "namespace").read_text().strip() or None
    except OSError:  # not in a pod
        return None


def private_path(environ: Mapping[str, str]) -> Path:
    """Return where the kubeconfig of a pod's service account will be; nothing is made."""
    base = Path(environ.get("TMPDIR") or tempfile.gettempdir()).absolute()
    return base / f"deploy-guard-{uuid.uuid4().hex}" / "kubeconfig"


def _unpinned(config: KubernetesConfig, context: Context) -> ConfigurationError:
    """Say what is not named, what kubectl would take, and what to type."""
    lacking = [key for key in ("context", "namespace") if not getattr(config, key)]
    current, ambient = _ambient(config.context, context.environ)
    found = f"kubectl's current context is {current!r}" if current else "kubectl has no current context"
    if config.context:
        found = f"the context {config.context!r} is for the namespace {ambient!r}, unless told otherwise"
    elif current:
        found += f" (namespace {ambient!r})"
    keys = {"context": config.context or current or "CONTEXT", "namespace": config.namespace or ambient or "NAMESPACE"}
    command = ["deploy-guard", "apply", "--driver", "kubernetes"]
    for key, value in keys.items():
        command += [f"--{key}", value]
    for manifest in config.manifests or ():
        command += ["--manifest", manifest]
    if config.render:
        command += ["--set", f"render={json.dumps(list(config.render), ensure_ascii=False)}"]
    if context.environ.get("ENV") != context.env:
        command += ["--env", context.env]
    lines = " and ".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in keys.items())
    return ConfigurationError(
        f"the driver kubernetes is not told where to deploy: {' and '.join(lacking)} "
        f"{'are' if len(lacking) > 1 else 'is'} not pinned; {found}, and what is current is never used unasked",
        hint=f"to deploy there, type: {shlex.join(command)}\n"
        f"        or write {lines} under [env.{context.env}.kubernetes]",
    )


def _ambient(name: str | None, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the current context, or the one named, and its namespace; empty where kubectl can't say."""
    words = ["kubectl", "config", "view", "--minify", "--output=json", *(["--context", name] if name else [])]
    try:
        result = process.run(words, timeout=5, env=environ)
        found = json.loads(result.stdout) if result.ok else {}
    except (CommandFailed, ValueError):  # no kubectl, or none that answers
        found = {}
    if not found:
        return "", ""
    contexts = found.get("contexts") or [{}]
    return name or found.get("current-context", ""), contexts[0].get("context", {}).get("namespace") or "default"
