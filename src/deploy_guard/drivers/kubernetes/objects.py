"""Kubernetes objects as they are in manifests and in the cluster: plain data, with an identity."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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
