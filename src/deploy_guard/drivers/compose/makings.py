"""What makes a container again, taken from what ``docker inspect`` shows of it. Pure.

Nothing of it knows Compose's files: a container comes back as it was though they changed, with the values that its
variables had, though they are gone from the environment.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deploy_guard.drivers.compose.state import Container

_SHORT = 12
_ENDPOINT = ("IPAMConfig", "Links", "Aliases", "DriverOpts", "GwPriority")
"""What a network's endpoint was asked for; the rest is what it got."""
_NETWORK = ("Name", "Driver", "EnableIPv4", "EnableIPv6", "IPAM", "Internal", "Attachable", "Options", "Labels")
_NETWORK_KIND = ("Driver", "EnableIPv6", "Internal", "Attachable", "Options")
"""What makes a network another one; its addresses may differ."""
_SHARED = ("NetworkMode", "IpcMode", "PidMode")
"""Settings that may say ``container:<id>``."""

_OF_THE_OTHER = ("Hostname", "Domainname", "ExposedPorts")
"""Settings that a container has from the one whose network it shares, and that must not be asked for."""


@dataclass(frozen=True)
class Making:
    """What makes one container again.

    :param config, host, networks: as the engine takes them; other containers in them are named, not numbered.
    :param files: an archive of the files that Compose copied into it (secrets and configs), in base64.
    """

    name: str
    service: str
    image: str
    image_name: str
    config: Mapping[str, Any] = field(repr=False)
    host: Mapping[str, Any] = field(repr=False)
    networks: Mapping[str, Mapping[str, Any]] = field(repr=False)
    files: str = field(default="", repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return plain data; it holds secrets, and is for the engine only."""
        return {
            "name": self.name,
            "service": self.service,
            "image": self.image,
            "image_name": self.image_name,
            "config": dict(self.config),
            "host": dict(self.host),
            "networks": dict(self.networks),
            "files": self.files,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Making:
        """Read what :meth:`to_json` gave."""
        return cls(**data)

    def digest(self, salt: str) -> str:
        """Identify every setting; without the salt, which stays in the engine, nothing can be guessed from it."""
        text = json.dumps(self._told(), sort_keys=True)
        return hmac.new(bytes.fromhex(salt), text.encode(), hashlib.sha256).hexdigest()

    def differing(self, other: Making) -> list[str]:
        """Return the names of the settings that another one has otherwise; no values."""
        one, another = _leaves(self._told()), _leaves(other._told())
        return sorted(name for name in {*one, *another} if one.get(name) != another.get(name))

    def _told(self) -> Any:
        """Return what two containers of the same settings have in common."""
        networks = {
            name: {**endpoint, "Aliases": [alias for alias in endpoint.get("Aliases", ()) if alias != self.name]}
            for name, endpoint in self.networks.items()
        }
        told = {key: value for key, value in self.to_json().items() if key not in ("files", "image_name")}
        bare = _bare({**told, "networks": networks})
        return {**bare, "networks": {name: _bare(endpoint) for name, endpoint in networks.items()}}

    def body(self, ids: Mapping[str, str], *, image: str) -> dict[str, Any]:
        """Return what ``POST /containers/create`` takes.

        :param ids: the ids of the containers that there are now, by name.
        :param image: the image's id, or a name that still means it.
        """
        host = {**self.host, **{key: _numbered(self.host[key], ids) for key in _SHARED if self.host.get(key)}}
        if host.get("VolumesFrom"):
            host["VolumesFrom"] = [_renamed(entry, ids) for entry in host["VolumesFrom"]]
        first = self.first_network
        endpoints = {first: dict(self.networks[first])} if first else {}
        return {**self.config, "Image": image, "HostConfig": host, "NetworkingConfig": {"EndpointsConfig": endpoints}}

    @property
    def first_network(self) -> str:
        """The network that it is made in; it joins the others after that. Empty where it shares another's or none."""
        mode = str(self.host.get("NetworkMode") or "")
        return mode if mode in self.networks else next(iter(self.networks), "")

    @property
    def further_networks(self) -> dict[str, Mapping[str, Any]]:
        """The networks that it joins before it starts."""
        return {name: endpoint for name, endpoint in self.networks.items() if name != self.first_network}

    @property
    def needs(self) -> set[str]:
        """The names of containers whose network, processes, memory or volumes it shares."""
        shared = [str(self.host.get(key) or "") for key in _SHARED]
        names = {text.removeprefix("container:") for text in shared if text.startswith("container:")}
        return names | {str(entry).partition(":")[0] for entry in self.host.get("VolumesFrom") or []}


def of(container: Container, names: Mapping[str, str], files: str = "") -> Making:
    """Take a container's makings.

    :param names: the names of the project's containers, by id.
    """
    raw = container.raw
    config = {key: value for key, value in raw["Config"].items() if key != "Image"}
    if config.get("Hostname") == container.id[:_SHORT]:
        del config["Hostname"]  # it came with the id; the next one has its own
    host = dict(raw["HostConfig"])
    if str(host.get("NetworkMode") or "").startswith("container:"):
        for key in _OF_THE_OTHER:
            config.pop(key, None)
    for key in _SHARED:
        if str(host.get(key) or "").startswith("container:"):
            host[key] = _named(host[key], names)
    if host.get("VolumesFrom"):
        host["VolumesFrom"] = [_renamed(entry, names) for entry in host["VolumesFrom"]]
    host["Mounts"] = _mounts(raw)
    host.pop("ContainerIDFile", None)
    shares = str(host.get("NetworkMode") or "").startswith(("container:", "host", "none"))
    found = {} if shares else (raw.get("NetworkSettings") or {}).get("Networks") or {}
    networks = {name: _endpoint(endpoint, container) for name, endpoint in found.items()}
    return Making(
        container.proper_name,
        container.service,
        container.image,
        container.image_name,
        config,
        host,
        networks,
        files,
    )


def network(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return what makes a network again."""
    return {key: raw[key] for key in _NETWORK if raw.get(key) is not None}


def same_network(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """True unless one of them must be made anew to be the other."""
    return all(_bare(one.get(key)) == _bare(other.get(key)) for key in _NETWORK_KIND)


def _mounts(raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return all mounts but those in ``Binds``, with volumes that have no name of their own named: data stays."""
    asked = {mount["Target"]: dict(mount) for mount in raw["HostConfig"].get("Mounts") or []}
    bound = {str(bind).split(":")[1] for bind in raw["HostConfig"].get("Binds") or [] if ":" in str(bind)}
    for mount in raw.get("Mounts") or []:
        target = mount.get("Destination")
        if mount.get("Type") != "volume" or target in bound:
            continue
        known = asked.setdefault(target, {"Type": "volume", "Target": target, "ReadOnly": not mount.get("RW", True)})
        if known.get("Type") == "volume" and not known.get("Source"):
            known["Source"] = mount["Name"]
    return sorted(asked.values(), key=lambda mount: str(mount["Target"]))


def _endpoint(endpoint: Mapping[str, Any], container: Container) -> dict[str, Any]:
    found = {key: endpoint[key] for key in _ENDPOINT if endpoint.get(key)}
    added = (container.id[:_SHORT], container.raw["Config"].get("Hostname"))  # by the engine, when it is started
    aliases = {alias for alias in found.pop("Aliases", ()) if alias not in added}
    if aliases:
        found["Aliases"] = sorted(container.proper_name if alias == container.name else alias for alias in aliases)
    return found


def _named(text: str, names: Mapping[str, str]) -> str:
    number = text.removeprefix("container:")
    return f"container:{names.get(number, number)}"


def _numbered(text: Any, ids: Mapping[str, str]) -> Any:
    if not str(text).startswith("container:"):
        return text
    name = str(text).removeprefix("container:")
    return f"container:{ids.get(name, name)}"


def _renamed(entry: str, names: Mapping[str, str]) -> str:
    first, colon, rest = entry.partition(":")
    return f"{names.get(first, first)}{colon}{rest}"


def _leaves(node: Any, name: str = "") -> dict[str, Any]:
    """Return the entries of the tables, with names of two levels: ``host.Memory``."""
    if isinstance(node, Mapping) and name.count(".") < 1:
        return {
            key: value
            for inner, entry in node.items()
            for key, value in _leaves(entry, f"{name}.{inner}".strip(".")).items()
        }
    return {name: node}


def _bare(node: Any) -> Any:
    """Drop what is not set: whether the engine says null, empty or nothing depends on how it was asked."""
    if isinstance(node, Mapping):
        found = {key: _bare(value) for key, value in node.items()}
        return {key: value for key, value in found.items() if value not in (None, "", 0, False, [], {})}
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [_bare(entry) for entry in node]
    return node
