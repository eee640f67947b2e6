"""Why there is no connection, in words for people: each says what to do next."""

from __future__ import annotations

import json
from collections.abc import Mapping

from deploy_guard import process
from deploy_guard.deadline import Deadline
from deploy_guard.drivers.kubernetes.answers import Call
from deploy_guard.drivers.kubernetes.api import ApiError, Unreachable
from deploy_guard.drivers.kubernetes.target import Target
from deploy_guard.errors import CommandFailed

OLDEST = "1.25"
"""The oldest kubectl that is known to work."""
_PATIENCE = 10.0
"""Seconds for what kubectl knows without asking the cluster."""


def check_version(environ: Mapping[str, str]) -> None:
    """Check that kubectl is new enough.

    :raises CommandFailed: when it is not, or does not say.
    """
    result = process.run(["kubectl", "version", "--client", "--output=json"], timeout=_PATIENCE, env=environ).check()
    try:
        version = str(json.loads(result.stdout)["clientVersion"]["gitVersion"])
        major, minor = version.lstrip("v").split(".")[:2]
        found = int(major), int(minor)
    except (ValueError, KeyError, TypeError) as error:
        raise CommandFailed(
            f"kubectl does not say which version it is: {result.stdout.strip()[:200] or 'it says nothing'}",
            hint="see what `kubectl version --client --output=json` prints",
        ) from error
    if found < tuple(map(int, OLDEST.split("."))):
        raise CommandFailed(f"kubectl {version} is too old", hint=f"install kubectl {OLDEST} or newer")


def refused(target: Target, environ: Mapping[str, str], error: CommandFailed) -> CommandFailed:
    """Return the error of a proxy that did not start, with a hint where one is known."""
    hint = error.hint
    if not hint and "does not exist" in error.what:
        known = _ask(environ, "config", "get-contexts", "--output=name").split()
        hint = (
            f"kubectl knows these contexts: {', '.join(known)}" if known else "kubectl knows no context: set KUBECONFIG"
        )
    return CommandFailed(error.what, hint=hint or f"see what this says: {target.shown('get', '--raw', '/version')}")


def hopeless(target: Target, why: str) -> Unreachable:
    """Return the error of a first request that no other try will help."""
    return Unreachable(
        f"kubectl can't talk to the cluster of the context {target.context}: {why}",
        hint=f"log in again or mend the kubeconfig, until this answers: {target.shown('get', '--raw', '/version')}",
    )


def unauthorized(target: Target, error: ApiError) -> ApiError:
    """Return a 401 with what it means: the server takes the credentials for nobody's."""
    told = ApiError(
        error.status,
        error.reason,
        f"the credentials of the context {target.context} are expired or wrong: {error.what}",
        error.details,
    )
    told.hint = f"log in again, until this answers: {target.shown('auth', 'whoami')}"
    return told


def unreachable(
    target: Target, address: str, call: Call, why: str, said: str, deadline: Deadline | None
) -> Unreachable:
    """Return the error of a request without an answer.

    :param address: of the API server; empty where it is not known.
    :param said: the last words of kubectl.
    :param deadline: None where it was not a matter of time.
    """
    waited = f" within {deadline.limit:.3g} s" if deadline is not None else ""
    where = f" ({address})" if address else ""
    return Unreachable(
        f"no answer to {call} from the API server of the context {target.context}{where}{waited}: {why}{said}",
        hint=f"when this answers, run again: {target.shown('get', '--raw', '/readyz')}",
    )


def address(target: Target, environ: Mapping[str, str]) -> str:
    """Return the API server's address; empty where kubectl can't say."""
    file = () if target.kubeconfig is None else ("--kubeconfig", str(target.kubeconfig))
    path = "jsonpath={.clusters[0].cluster.server}"
    text = _ask(environ, *file, "--context", target.context, "config", "view", "--minify", f"--output={path}")
    return text.strip()


def _ask(environ: Mapping[str, str], *words: str) -> str:
    """Return what kubectl knows without asking the cluster; empty where it can't say."""
    try:
        result = process.run(["kubectl", *words], timeout=_PATIENCE, env=environ)
    except CommandFailed:  # this explains another error, and must not hide it
        return ""
    return result.stdout if result.ok else ""
