"""Kubernetes objects as they are in manifests and in the cluster: plain data, with an identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Object = dict[str, Any]
"""An object of the API as it is sent and received: ``apiVersion``, ``kind``, ``metadata`` and the rest."""

PHASE = "deploy-guard/phase"
"""Annotation: ``before`` or ``after`` the rest of the release."""


@dataclass(frozen=True)
class Manifest:
    """One object of the release as the user wrote it; ``source`` says where: ``k8s/app.yaml, document 2``."""

    body: Object = field(repr=False)
    source: str

    @property
    def kind(self) -> str:
        """Its kind, as in ``Deployment``."""
        return str(self.body["kind"])

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.body["metadata"]["name"])

    @property
    def namespace(self) -> str | None:
        """The namespace that it names itself, if any."""
        namespace: str | None = self.body["metadata"].get("namespace")
        return namespace

    @property
    def shown(self) -> str:
        """As people write it: ``Deployment/web``."""
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, order=True)
class Key:
    """Which object it is; ``namespace`` is empty for what stands in none."""

    api_version: str
    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, body: Object) -> Key:
        """Return the key of an object that came from the API server."""
        meta = body["metadata"]
        return cls(body["apiVersion"], body["kind"], meta.get("namespace", ""), meta["name"])

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, order=True)
class Ref:
    """An object and where the API server has it: ``/apis/apps/v1/namespaces/shop/deployments/web``."""

    key: Key
    path: str

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"key": asdict(self.key), "path": self.path}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Ref:
        """Read what :meth:`to_json` gave."""
        return cls(Key(**data["key"]), data["path"])

    @property
    def collection(self) -> str:
        """The path of all objects of its kind in its namespace, to which new ones are posted."""
        return self.path.rpartition("/")[0]

    def __str__(self) -> str:
        return str(self.key)


Action = Literal["create", "change", "remove", "none"]


@dataclass(frozen=True)
class Planned:
    """What the rollout does with one object.

    :param desired: what is sent: the manifest with its namespace; None for an object that is removed.
    :param before: the object as it is in the cluster, ``managedFields`` included; None where there is none.
    :param after: the object as it would be, as the dry run answered; None for one that is removed, or whose kind or
        namespace comes only with this release.
    :param phase: ``before`` or ``after`` for a Job of a phase, else empty.
    :param rank: objects of a lower rank are applied first (``order.py``).
    :param taken: ``(manager, operation)`` of the field managers whose fields are taken over (``adopt``).
    :param diff: for a reviewer, Secret values masked.
    """

    ref: Ref
    action: Action
    desired: Object | None = field(repr=False)
    before: Object | None = field(repr=False)
    after: Object | None = field(repr=False)
    phase: str = ""
    rank: int = 0
    taken: tuple[tuple[str, str], ...] = ()
    diff: str = ""


@dataclass(frozen=True)
class Plan:
    """A planned rollout, in the order of apply; what is removed stands last.

    :param sequence: the number of the record of the last release in the namespace (``records.py``); 0 for none.
    :param left: objects of the last release that are not in this one and stay: ``prune = false``, or never removed.
    :param notes: lines for people: what can't be checked yet, what drifted, what is left behind.
    """

    objects: tuple[Planned, ...]
    sequence: int
    previous: str | None
    left: tuple[Ref, ...] = ()
    notes: tuple[str, ...] = ()
