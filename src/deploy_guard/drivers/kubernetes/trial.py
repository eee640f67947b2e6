"""For how long faults have stood, and which charges are proven by now."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

from deploy_guard.drivers.kubernetes.api import Api, ApiError, Unreachable
from deploy_guard.drivers.kubernetes.config import Dwells
from deploy_guard.drivers.kubernetes.doom import Charge
from deploy_guard.drivers.kubernetes.faults import Fault, Missing
from deploy_guard.drivers.kubernetes.objects import Object, Ref

PATIENCE = 2.0
"""Seconds for a question whose answer decides; without one nothing is decided."""
_PLURAL = {
    "ConfigMap": "configmaps",
    "Secret": "secrets",
    "ServiceAccount": "serviceaccounts",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "ResourceQuota": "resourcequotas",
}
_UNITS = {unit: 1000**power for power, unit in enumerate("kMGTPE", 1)}
_UNITS |= {f"{unit}i": 1024**power for power, unit in enumerate("KMGTPE", 1)}
_UNITS |= {"": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


class Trial:
    """Remembers since when each fault stands. A fault that goes away, and comes again, begins anew."""

    def __init__(self, api: Api, dwell: Dwells) -> None:
        self._api = api
        self._dwell = {
            "final": 0.0,
            "crash_loop": dwell.crash_loop,
            "image": dwell.image,
            "unschedulable": dwell.unschedulable,
            "other": dwell.other,
        }
        self._since: dict[Ref, dict[tuple[str, str, str], float]] = {}
        self._excused: dict[tuple[str, str, str], float] = {}

    def heard(self, ref: Ref, charges: Iterable[Charge]) -> list[Fault]:
        """Take what speaks against a workload now; returns the faults that are new."""
        before, now = self._since.get(ref, {}), time.monotonic()
        faults = {fault.key: fault for charge in charges for fault in charge.faults}
        self._since[ref] = {key: before.get(key, now) for key in faults}
        return [fault for key, fault in faults.items() if key not in before]

    def dwell(self, fault: Fault) -> float:
        """Return for how long a fault must stand."""
        return self._dwell[fault.kind]

    def due(self, ref: Ref, charge: Charge) -> float:
        """Return when a charge is proven if nothing changes, by the monotonic clock."""
        return max(min(self._due(ref, fault) for fault in group) for group in charge.groups)

    def stands_since(self, ref: Ref, charge: Charge) -> float:
        """Return since when all of it stands."""
        return max(min(self._since[ref][fault.key] for fault in group) for group in charge.groups)

    def is_proven(self, ref: Ref, charge: Charge) -> bool:
        """Whether all of a charge has stood for its time, and what is missing is missing still.

        The kubelet and controllers look again only after pauses that are longer than the dwell times: what they miss
        may be there by now.
        """
        now = time.monotonic()
        for group in charge.groups:
            stand = [fault for fault in group if self._due(ref, fault) <= now]
            if all(self._is_excused(ref, fault) for fault in stand):
                return False
        return True

    def _due(self, ref: Ref, fault: Fault) -> float:
        return max(self._since[ref][fault.key] + self._dwell[fault.kind], self._excused.get(fault.key, 0.0))

    def _is_excused(self, ref: Ref, fault: Fault) -> bool:
        if fault.missing is None:
            return False
        there = self._is_there(ref.key.namespace, fault.missing)
        if there is not False:
            if there and fault.key not in self._excused:
                print(f"{ref}: {fault.missing} is there by now; waiting until it is looked for again")
            self._excused[fault.key] = time.monotonic() + (self._dwell["other"] or 1.0 if there else PATIENCE)
        return there is not False

    def _is_there(self, namespace: str, missing: Missing) -> bool | None:
        """Whether an object that a controller missed is there by now; None when nobody can say."""
        path = f"/api/v1/namespaces/{namespace}/{_PLURAL[missing.kind]}/{missing.name}"
        try:
            found = self._api.request("GET", path, patience=PATIENCE)
        except ApiError:
            return False  # not there, or not for us to see
        except Unreachable:
            return None
        if missing.kind == "ResourceQuota":
            return has_room(found, missing.key)
        keys = {*(found.get("data") or {}), *(found.get("binaryData") or {})}
        return not missing.key or missing.key in keys


def has_room(quota: Object, wanted: str) -> bool:
    """Whether a ResourceQuota has room by now; ``wanted`` as its refusal lists it: ``pods=1,requests.cpu=100m``."""
    status = quota.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    for name, _, amount in (one.partition("=") for one in wanted.split(",")):
        if name in hard and _number(used.get(name, "0")) + _number(amount) > _number(hard[name]):
            return False
    return True


def _number(quantity: object) -> float:
    """Return a quantity as Kubernetes writes it (``100m``, ``1.5Gi``, ``2e3``) as a number; 0 for what is none."""
    found = re.fullmatch(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([a-zA-Z]*)", str(quantity))
    return float(found[1]) * _UNITS.get(found[2], 1.0) if found else 0.0
