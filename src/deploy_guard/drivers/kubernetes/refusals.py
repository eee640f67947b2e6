"""Why a release can't be planned: all of it at once, by object, with what helps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from deploy_guard.drivers.kubernetes import adoption, dryrun, permissions
from deploy_guard.drivers.kubernetes.api import Api, ApiError
from deploy_guard.drivers.kubernetes.config import KubernetesConfig
from deploy_guard.drivers.kubernetes.discovery import Resources
from deploy_guard.drivers.kubernetes.dryrun import Trial
from deploy_guard.drivers.kubernetes.live import Live
from deploy_guard.drivers.kubernetes.objects import PHASE, Manifest
from deploy_guard.drivers.kubernetes.target import Target
from deploy_guard.errors import PlanRejected

_NO_NAMESPACE = re.compile(r'namespaces "[^"]+" not found')
_LINES = 100
_FIELDS = 10
"""Of so many conflicts of one object the fields are named."""
_DOCS = "docs/kubernetes.md has a Role that grants what deploy-guard needs"


@dataclass
class Problems:
    """What is wrong, a line for each, and what helps."""

    lines: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)

    def add(self, line: str, *hints: str) -> None:
        """Add one."""
        self.lines.append(line)
        self.hints += hints


def known(manifests: Sequence[Manifest], resources: Resources, namespace: str, problems: Problems) -> list[Trial]:
    """Return the manifests as the API server will get them, those left out that can't be sent."""
    trials = []
    for one in manifests:
        api_version, kind, named = str(one.body["apiVersion"]), one.kind, f"{one.shown} ({one.source})"
        resource = resources.find(api_version, kind)
        elsewhere = resources.elsewhere(api_version, kind) if resource is None or resource.promised else []
        versions = ", ".join(elsewhere)
        if resource is None:
            hint = "is the apiVersion right? Else install the CustomResourceDefinition, or make it part of the release"
            problems.add(
                f"{named}: the API server knows no {kind} of {api_version}",
                f"it knows {kind} of {versions}" if versions else hint,
            )
        elif elsewhere:
            problems.add(
                f"{named}: the API server gets {api_version} only with this release, and knows {kind} of {versions} "
                "now: what is there can't be seen in this version yet",
                "release the CustomResourceDefinition first, and objects of the new version after it",
            )
        else:
            trial = dryrun.prepared(one, resource, namespace)
            trials.append(trial)
            if trial.phase and (kind != "Job" or trial.phase not in ("before", "after")):
                problems.add(
                    f"{named}: the annotation {PHASE} is {trial.phase!r}, of a {kind}",
                    f'{PHASE} is for Jobs, and is "before" or "after"',
                )
    return trials


def no_namespace(error: ApiError) -> bool:
    """Say whether an object is refused because its namespace is not there."""
    return error.status == 404 and bool(_NO_NAMESPACE.search(error.what))


def judge(
    api: Api,
    trials: Sequence[Trial],
    live: Live,
    lacking: Sequence[permissions.Right],
    config: KubernetesConfig,
    target: Target,
    problems: Problems,
) -> None:
    """Add what is wrong with the release as a whole and with each object."""
    if any(trial.refused is not None and no_namespace(trial.refused) for trial in trials):
        create = target.shown("create", "namespace", target.namespace)
        problems.add(
            f"the namespace {target.namespace} does not exist", f"make it part of the release, or create it: {create}"
        )
    if lacking:
        problems.add("\n".join(permissions.told(api, lacking)), _DOCS)
    if found := [conflict for trial in trials for conflict in trial.conflicts]:
        problems.hints.append(adoption.advice(found, config.adopt))
    for trial in trials:
        named, error = f"{trial.ref} ({trial.manifest.source})", trial.refused or live.refused.get(trial.ref.path)
        if since := ((live.get(trial.ref) or {}).get("metadata") or {}).get("deletionTimestamp"):
            problems.add(f"{named}: it is being deleted, since {since}", f"wait until {trial.ref} is gone")
        elif trial.conflicts:
            which = "; ".join(_few([str(conflict) for conflict in trial.conflicts], _FIELDS))
            problems.add(f"{named}: {which}, and has another value there")
        elif error is not None and not no_namespace(error) and not (lacking and _mere_right(error)):
            problems.add(f"{named}: {dryrun.words(error, trial.desired)}", *_advice(trial, error))


def rejected(problems: Problems, drifted: Sequence[str]) -> PlanRejected:
    """Return the error that tells it."""
    told = [*_few(problems.lines, _LINES), *(f"drift since the last release: {line}" for line in drifted)]
    lines = "\n".join(f"  {line}".replace("\n", "\n    ") for line in told)
    return PlanRejected(f"nothing can be applied:\n{lines}", hint="; ".join(dict.fromkeys(problems.hints)))


def _few(some: Sequence[str], most: int) -> list[str]:
    return [*some] if len(some) <= most else [*some[:most], f"… and {len(some) - most} more"]


def _mere_right(error: ApiError) -> bool:
    """Say whether it is refused for a right that is told with the others: not a quota, a policy, or an escalation."""
    return error.status == 403 and " cannot " in error.what and "attempting to grant" not in error.what


def _advice(trial: Trial, error: ApiError) -> list[str]:
    if trial.ref.key.kind == "Job" and dryrun.immutable(error):
        again = f'annotate it {PHASE}: "before" (or "after"), so that it is replaced and runs again'
        return [f"a Job can't be changed: {again}; or give it a new name"]
    if dryrun.immutable(error):
        return [f"delete {trial.ref} first, or give it a new name: what is immutable can't be changed"]
    if error.status == 400 and "dry run" in error.what:
        return ["the webhook must declare sideEffects: None or NoneOnDryRun: without a dry run nothing is applied"]
    return []
