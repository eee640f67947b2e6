"""What a reviewer sees of a service: as it is to be, beside the container that is there. Values of variables never."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from deploy_guard.drivers.compose.model import Project, Service, literal
from deploy_guard.drivers.compose.state import Container, image_variables

_SHORT = 12
"""Characters of an id that people see."""
_OWN_LABELS = "com.docker.compose."
_NO_NAME = re.compile(r"[0-9a-f]{64}")
"""What the engine calls a volume that was given no name."""


@dataclass(frozen=True)
class View:
    """What is shown of a service or container: one text or none for a name, or several."""

    single: Mapping[str, str]
    several: Mapping[str, frozenset[str]]
    environment: Mapping[str, str] = field(repr=False)


def planned(project: Project, service: Service, image_id: str, image: Mapping[str, Any] | None) -> View:
    """Return the view of a service as Compose resolves it."""
    body = service.body
    own = image_variables(image)
    single = {
        "image": _image(service.image, image_id),
        "command": literal(_words(body.get("command"))),
        "entrypoint": literal(_words(body.get("entrypoint"))),
        "restart": str(body.get("restart") or ""),
        "user": str(body.get("user") or ""),
        "healthcheck": "none" if service.unchecked else literal(_words((body.get("healthcheck") or {}).get("test"))),
        "network mode": str(body.get("network_mode") or ""),
    }
    several = {
        "port": frozenset(_port(*port) for port in service.ports),
        "volume": frozenset(_planned_volumes(project, body)),
        "network": frozenset(project.real_name("networks", key) for key in body.get("networks") or {}),
        "label": frozenset(f"{key}={literal(str(value))}" for key, value in (body.get("labels") or {}).items()),
    }
    changed = {name: value for name, value in service.environment.items() if own.get(name) != value}
    return View({key: text for key, text in single.items() if text}, several, changed)


def present(container: Container, image: Mapping[str, Any] | None, services: Mapping[str, str]) -> View:
    """Return the view of a container; what its image says anyway is left out.

    :param services: the services of the project's containers, by id.
    """
    config, host = container.raw["Config"], container.raw["HostConfig"]
    of_image = (image or {}).get("Config") or {}
    own = image_variables(image)

    def differing(key: str) -> Any:
        return config.get(key) if config.get(key) != of_image.get(key) else None

    networks = (container.raw.get("NetworkSettings") or {}).get("Networks") or {}
    test = (config.get("Healthcheck") or {}).get("Test") or []
    checked = [] if test == ((of_image.get("Healthcheck") or {}).get("Test") or []) else test
    single = {
        "image": _image(container.image_name, container.image),
        "command": _words(differing("Cmd")),
        "entrypoint": _words(differing("Entrypoint")),
        "restart": _policy(host.get("RestartPolicy") or {}),
        "user": str(differing("User") or ""),
        "healthcheck": "none" if checked == ["NONE"] else _words(checked),
        "network mode": _mode(str(host.get("NetworkMode") or ""), services),
    }
    labels = of_image.get("Labels") or {}
    several = {
        "port": frozenset(_port(*port) for port in container.ports),
        "volume": frozenset(_present_volumes(container, of_image.get("Volumes") or {})),
        "network": frozenset(name for name in networks if name not in ("host", "none")),
        "label": frozenset(
            f"{key}={value}"
            for key, value in container.labels.items()
            if not key.startswith(_OWN_LABELS) and labels.get(key) != value
        ),
    }
    changed = {name: value for name, value in container.environment.items() if own.get(name) != value}
    return View({key: text for key, text in single.items() if text}, several, changed)


def lines(before: View | None, after: View | None, redact: Callable[[str], str]) -> list[str]:
    """Return what differs, line by line; ``-`` was there, ``+`` is to be, ``~`` has another value."""
    empty = View({}, {}, {})
    old, new = before or empty, after or empty
    found = []
    for key in (*new.single, *(key for key in old.single if key not in new.single)):
        if old.single.get(key) != new.single.get(key):
            found += [
                f"{sign} {key}: {redact(view.single[key])}"
                for sign, view in (("-", old), ("+", new))
                if key in view.single
            ]
    for name in sorted({*old.environment, *new.environment}):
        if name not in new.environment:
            found.append(f"- environment: {name}")
        elif name not in old.environment:
            found.append(f"+ environment: {name}")
        elif old.environment[name] != new.environment[name]:
            found.append(f"~ environment: {name} (another value)")
    for key in (*new.several, *(key for key in old.several if key not in new.several)):
        was, will = old.several.get(key, frozenset()), new.several.get(key, frozenset())
        found += [f"- {key}: {redact(text)}" for text in sorted(was - will)]
        found += [f"+ {key}: {redact(text)}" for text in sorted(will - was)]
    return found


def short(image_id: str) -> str:
    """Return an image's id as people see it."""
    return image_id.removeprefix("sha256:")[:_SHORT]


def _image(name: str, image_id: str) -> str:
    named = "" if name.startswith("sha256:") else name
    shown = short(image_id) if image_id else "not here yet"
    return f"{named} ({shown})" if named else shown


def _words(value: Any) -> str:
    """Return a command as a person would type it."""
    if not value:
        return ""
    return value if isinstance(value, str) else shlex.join(map(str, value))


def _port(address: str, outside: str, inside: str) -> str:
    return (f"{address}:" if address and address != "0.0.0.0" else "") + f"{outside or 'any'} -> {inside}"  # noqa: S104


def _policy(policy: Mapping[str, Any]) -> str:
    name, most = str(policy.get("Name") or ""), int(policy.get("MaximumRetryCount") or 0)
    if name == "no":
        return ""
    return f"{name}:{most}" if most else name


def _mode(mode: str, services: Mapping[str, str]) -> str:
    if mode.startswith("container:"):
        number = mode.removeprefix("container:")
        return f"service:{services[number]}" if number in services else mode
    return mode if mode in ("host", "none") else ""


def _planned_volumes(project: Project, body: Mapping[str, Any]) -> list[str]:
    found = []
    for volume in body.get("volumes") or []:
        kind, source, target = volume["type"], volume.get("source", ""), volume["target"]
        if kind == "volume":
            source = project.real_name("volumes", source) if source else "(no name)"
        elif kind != "bind":
            source = f"({kind})"
        found.append(_volume(source, target, read_only=bool(volume.get("read_only"))))
    for kind, folder in (("secrets", "/run/secrets/"), ("configs", "/")):
        for entry in body.get(kind) or []:
            path = ((project.body.get(kind) or {}).get(entry["source"]) or {}).get("file")
            target = entry.get("target") or entry["source"]
            if path:
                found.append(_volume(path, target if target.startswith("/") else folder + target, read_only=True))
    return found


def _present_volumes(container: Container, of_image: Mapping[str, Any]) -> list[str]:
    found = []
    for mount in container.raw.get("Mounts") or []:
        kind, target = mount.get("Type"), str(mount.get("Destination", ""))
        source = str(mount.get("Source") or "")
        if kind == "volume":
            source = "(no name)" if _NO_NAME.fullmatch(str(mount["Name"])) else str(mount["Name"])
            if target in of_image and source == "(no name)":
                continue  # the image asks for it, not the file
        elif kind != "bind":
            source = f"({kind})"
        found.append(_volume(source, target, read_only=not mount.get("RW", True)))
    return found


def _volume(source: str, target: str, *, read_only: bool) -> str:
    return f"{source} -> {target}" + (" (read-only)" if read_only else "")
