"""The changes of a plan, service by service, for a reviewer. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from deploy_guard.drivers.base import Change
from deploy_guard.drivers.compose import diff
from deploy_guard.drivers.compose.model import Project, Service
from deploy_guard.drivers.compose.state import Container
from deploy_guard.redact import Redactor

Action = Literal["create", "change", "remove", "none"]
Actions = Mapping[tuple[str, str], Action]
"""What happens to a container, network or volume: by kind and name."""
Images = Mapping[str, Mapping[str, Any] | None]


@dataclass(frozen=True)
class Review:
    """Puts what is to be beside what is there.

    :param actions: what Compose would do.
    :param stale: of services that Compose would leave alone, what it copied and is another one now, in lines.
    :param new_images: of the services, by their names.
    :param old_images: of the containers, by id.
    """

    project: Project
    present: tuple[Container, ...] = field(repr=False)
    actions: Actions
    stale: Mapping[str, list[str]]
    new_images: Images = field(repr=False)
    old_images: Images = field(repr=False)
    redactor: Redactor = field(repr=False)

    def changes(self) -> tuple[Change, ...]:
        """Return all changes: services, networks, volumes."""
        names = {one.service for one in self.present if not one.one_off}
        found = [self._service(service) for _, service in sorted(self.project.services.items())]
        orphans = [
            (name, [one for one in self._containers(name) if self._action(one) == "remove"])
            for name in sorted(names - set(self.project.services))
        ]
        found += [
            Change("remove", f"service {name}", self._text(self._old(gone[0]), None)) for name, gone in orphans if gone
        ]
        for kind in ("Network", "Volume"):
            found += [
                Change(action, f"{kind.lower()} {name}")
                for (what, name), action in sorted(self.actions.items())
                if what == kind
            ]
        return tuple(found)

    def notes(self, known: Iterable[str]) -> list[str]:
        """Say what a reviewer must know besides; ``known`` are the services of all profiles."""
        notes, unchecked, off = [], [], set(known) - set(self.project.services)
        for name, service in sorted(self.project.services.items()):
            of_image = ((self.new_images[name] or {}).get("Config") or {}).get("Healthcheck") or {}
            by_image = (of_image.get("Test") or ["NONE"]) != ["NONE"] and not service.unchecked
            if not service.checked and not by_image and not service.ends:
                unchecked.append(name)
            if service.body.get("pull_policy") in ("always", "daily", "weekly"):
                notes.append(f"{name}: its pull_policy is not followed: images are pulled when they are missing only")
        if unchecked:
            notes.append(f"without a healthcheck, running is all that is asked of {', '.join(unchecked)}")
        if alone := sorted({one.service for one in self.present if one.service in off}):
            notes.append(f"left alone, their profile is off: {', '.join(alone)}")
        return notes

    # The parts

    def _service(self, service: Service) -> Change:
        what, containers = f"service {service.name}", self._containers(service.name)
        new_image = self.new_images[service.name]
        view = diff.planned(self.project, service, str((new_image or {}).get("Id", "")), new_image)
        if not containers and service.replicas:
            return Change("create", what, self._text(None, view))
        lines: list[str] = []
        proper = [one for one in containers if not one.leftover]
        changed = [one for one in proper if self._action(one) == "change"]
        removed = [one for one in proper if self._action(one) == "remove"]
        if changed:
            text = self._text(self._old(changed[0]), view)
            lines.append(text or "~ a setting that is not shown here, or made again with another")
        if service.replicas != len(proper):
            lines.append(f"~ containers: {len(proper)} -> {service.replicas}")
        else:
            lines += [f"- container: {one.name}" for one in removed]
        lines += [
            f"~ {one.name}: {one.status}, is started"
            for one in proper
            if one not in changed and one not in removed and self._is_down(service, one)
        ]
        lines += [
            f"~ {one.name}: left by a recreate that was interrupted, is healed" for one in containers if one.leftover
        ]
        lines += self.stale.get(service.name, [])
        return Change("change" if lines else "none", what, "\n".join(lines))

    def _containers(self, service: str) -> list[Container]:
        return [one for one in self.present if one.service == service and not one.one_off]

    def _action(self, one: Container) -> Action:
        return self.actions.get(("Container", one.name), "none")

    def _is_down(self, service: Service, one: Container) -> bool:
        """True for what does not run, and is no task that has ended well."""
        task = service.name in self.project.completed or service.ends
        return one.status not in ("running", "restarting") and not (
            task and one.status == "exited" and one.exit_code == 0
        )

    def _old(self, one: Container) -> diff.View:
        return diff.present(one, self.old_images.get(one.image), {other.id: other.service for other in self.present})

    def _text(self, before: diff.View | None, after: diff.View | None) -> str:
        return "\n".join(diff.lines(before, after, self.redactor.redact))
