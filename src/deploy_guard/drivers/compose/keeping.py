"""What a rollback needs, kept in the engine: the makings of the old containers, and their images.

It holds the values of variables, as the engine's own record of the old containers does, and so it stays in the engine.
For each rollout: an image whose label holds the makings, a tag for each old image, and a container, never started, for
each of these images. `docker image prune --all` spares what containers use, `docker system prune` what has a tag.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deploy_guard.drivers.compose.engine import Engine, EngineError
from deploy_guard.drivers.compose.makings import Making

_REPOSITORY = "deploy-guard-kept"
_PROJECT, _KEY, _KEPT, _RELEASE = (f"deploy-guard.{name}" for name in ("project", "key", "kept", "release"))
_NEVER = "/never-started-by-deploy-guard"
_ROLLOUTS = 2
"""How many rollouts' makings are kept: this one's, and the one's before, which `rollback` may still be asked for."""


@dataclass(frozen=True)
class Kept:
    """What is kept of the state before a rollout.

    :param key: names the rollout; later ones sort after earlier ones.
    :param salt: of the digests in the snapshot.
    """

    key: str
    salt: str
    makings: tuple[Making, ...]
    networks: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return plain data; it holds secrets, and is for the engine only."""
        return {
            "schema": 1,
            "key": self.key,
            "salt": self.salt,
            "makings": [making.to_json() for making in self.makings],
            "networks": list(self.networks),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Kept:
        """Read what :meth:`to_json` gave."""
        makings = tuple(Making.from_json(entry) for entry in data["makings"])
        return cls(data["key"], data["salt"], makings, tuple(data["networks"]))


@dataclass(frozen=True)
class Shipped:
    """Which version a rollout replaced by which, and by which images they are known, service by service."""

    before: str | None
    after: str | None
    images_before: Mapping[str, str]
    images_after: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "before": self.before,
            "after": self.after,
            "images_before": dict(self.images_before),
            "images_after": dict(self.images_after),
        }


@dataclass(frozen=True)
class Keeper:
    """Keeps and finds what belongs to one project."""

    engine: Engine
    project: str

    def keep(self, kept: Kept, shipped: Shipped) -> None:
        """Keep it; what is kept already stays. Older rollouts than the one before are given up."""
        if self.find(kept.key) is not None:
            return
        images = sorted({making.image for making in kept.makings}) or sorted(shipped.images_after.values())[:1]
        numbered = list(enumerate(images))
        if kept.makings:
            for number, image in numbered:
                self._tag(image, f"{kept.key}-{number}")
        made = self.engine.each(lambda entry: self._hold(entry[1], kept, f"{kept.key}-{entry[0]}"), numbered)
        labels = {
            _PROJECT: self.project,
            _KEY: kept.key,
            _KEPT: json.dumps(kept.to_json()),
            _RELEASE: json.dumps(shipped.to_json()),
        }
        query = {"container": made[0], "repo": _REPOSITORY, "tag": self._tagged(kept.key)}
        self.engine.post("/commit", {"Labels": labels}, query=query)
        self._hold(self._reference(kept.key), kept, kept.key, volumes=False)
        for key in sorted(self._keys())[:-_ROLLOUTS]:
            self.forget(key)

    def find(self, key: str) -> Kept | None:
        """Return what was kept under this key, or None when it is gone: pruned, or removed by hand."""
        for path in (f"/images/{self._reference(key)}/json", f"/containers/{self._name(key)}/json"):
            found = self.engine.found(path)
            if found is not None:
                return Kept.from_json(json.loads(found["Config"]["Labels"][_KEPT]))
        return None

    def version_of(self, images: Mapping[str, str]) -> str | None:
        """Return the version that the last rollouts shipped or replaced as these images; None when none did."""
        found = self.engine.get("/images/json", query=_labelled(_PROJECT, self.project))
        labels = [image["Labels"] for image in found if _RELEASE in image["Labels"]]
        for label in sorted(labels, key=lambda one: str(one[_KEY]), reverse=True):
            told = Shipped(**json.loads(label[_RELEASE]))
            for version, known in ((told.after, told.images_after), (told.before, told.images_before)):
                # Containers of profiles that were off may be there besides.
                if known and all(images.get(service) == image for service, image in known.items()):
                    return version
        return None

    def forget(self, key: str) -> None:
        """Remove what was kept under this key; images that others use stay."""
        containers = self.engine.get("/containers/json", query={"all": "1", **_labelled(_KEY, key)})
        mine = [one["Id"] for one in containers if one["Labels"].get(_PROJECT) == self.project]
        self.engine.each(lambda number: self.engine.delete(f"/containers/{number}"), mine)
        for reference in self._references(key):
            try:
                self.engine.delete(f"/images/{reference}")
            except EngineError as error:
                print(f"the image {reference} stays: {error.what}")

    # The parts

    def _tagged(self, key: str) -> str:
        return f"{self.project}-{key}"

    def _reference(self, key: str) -> str:
        return f"{_REPOSITORY}:{self._tagged(key)}"

    def _name(self, key: str) -> str:
        return f"deploy-guard-{self.project}-{key}"

    def _tag(self, image: str, key: str) -> None:
        self.engine.post(f"/images/{image}/tag", query={"repo": _REPOSITORY, "tag": self._tagged(key)})

    def _hold(self, image: str, kept: Kept, name: str, *, volumes: bool = True) -> str:
        """Make a container that is never started, so that its image and volumes are in use."""
        of_image = (self.engine.get(f"/images/{image}/json")["Config"] or {}).get("Volumes") or {}
        used = sorted({name for making in kept.makings if making.image == image for name in _volumes(making)})
        mounts = [
            # What is in a volume is not touched: nothing is copied into it, not even into an empty one.
            {"Type": "volume", "Source": name, "Target": f"/kept/{number}", "VolumeOptions": {"NoCopy": True}}
            for number, name in enumerate(used if volumes else ())
        ]
        # Else the engine would make a volume for each that the image asks for.
        mounts += [{"Type": "tmpfs", "Target": target} for target in of_image]
        body = {
            "Image": image,
            "Entrypoint": [_NEVER],
            "Labels": {_PROJECT: self.project, _KEY: kept.key},
            "Healthcheck": {"Test": ["NONE"]},
            "HostConfig": {"Mounts": mounts, "NetworkMode": "none"},
        }
        try:
            made = self.engine.post("/containers/create", body, query={"name": self._name(name)})
            return str(made["Id"])
        except EngineError as error:
            there = self.engine.found(f"/containers/{self._name(name)}/json")  # of a run that was cut off here
            if there is None:
                raise error
            return str(there["Id"])

    def _keys(self) -> set[str]:
        found = self.engine.get("/images/json", query=_labelled(_PROJECT, self.project))
        containers = self.engine.get("/containers/json", query={"all": "1", **_labelled(_PROJECT, self.project)})
        return {one["Labels"][_KEY] for one in (*found, *containers) if _KEY in one["Labels"]}

    def _references(self, key: str) -> list[str]:
        prefix = self._reference(key)
        found = self.engine.get("/images/json", query={"filters": json.dumps({"reference": [f"{_REPOSITORY}:*"]})})
        names = [name for image in found for name in image["RepoTags"] or []]
        return [name for name in names if name == prefix or name.startswith(f"{prefix}-")]


def new_key(now: float, token: str) -> str:
    """Return a key that sorts after earlier ones."""
    return f"{int(now * 1000):x}-{token}"


def _labelled(name: str, value: str) -> dict[str, str]:
    return {"filters": json.dumps({"label": [f"{name}={value}"]})}


def _volumes(making: Making) -> set[str]:
    mounts = making.host.get("Mounts") or []
    named = {str(mount["Source"]) for mount in mounts if mount.get("Type") == "volume" and mount.get("Source")}
    binds = (str(bind).split(":")[0] for bind in making.host.get("Binds") or [])
    return named | {source for source in binds if not source.startswith(("/", "."))}
