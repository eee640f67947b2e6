"""The record of a rollout that is not finished, in one file for each environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy_guard.errors import ConfigurationError
from deploy_guard.ledger.files import move_durably, remove_durably, write_json


class FileStore:
    """Keeps ``<folder>/<env>.unfinished.json`` while a rollout is under way, and ``<env>.last.json`` after it.

    The record of a rollout whose release stayed becomes ``<env>.shipped.json``: what is needed to take it back.

    :param folder: beside the configuration file, ``.deploy-guard``.
    """

    def __init__(self, folder: Path, env: str) -> None:
        self._unfinished = folder / f"{env}.unfinished.json"
        self._last = folder / f"{env}.last.json"
        self._shipped = folder / f"{env}.shipped.json"

    def save(self, record: Mapping[str, Any]) -> None:
        """Keep the record; it survives a power loss once this returns. ``OSError`` when it can't be written."""
        write_json(self._unfinished, record)

    def load(self) -> dict[str, Any] | None:
        """Return the record of a rollout whose apply had begun, or None.

        A record whose apply never began is nothing to finish: the target was not touched.

        :raises ConfigurationError: when there is a record that can't be read; it is left as it is.
        """
        data = _read(self._unfinished, "check what is running on the target, then move the file away")
        return data if data is not None and data["begun"] else None

    def shipped(self) -> dict[str, Any] | None:
        """Return the record of the rollout whose release serves now, or None when it can't be taken back.

        :raises ConfigurationError: when there is a record that can't be read.
        """
        return _read(self._shipped, "deploy the version that is wanted, then move the file away")

    def take_back(self, record: Mapping[str, Any]) -> None:
        """Turn the record of what serves into the unfinished one: from here on, whatever happens, the way is back."""
        self.save(record)
        remove_durably(self._shipped)

    def last(self) -> dict[str, Any]:
        """Return the summary of the last finished rollout; empty when there is none, or none that can be read."""
        try:
            data = json.loads(self._last.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # it informs only; nothing is decided by its absence
            return {}
        return data if isinstance(data, dict) else {}

    def clear(self, summary: Mapping[str, Any], *, stays: bool) -> None:
        """Nothing is unfinished any more.

        :param stays: the release that was applied is still there, so that its record is needed to take it back.
        """
        write_json(self._last, summary)
        if stays:
            move_durably(self._unfinished, self._shipped)
        else:
            remove_durably(self._unfinished)


def _read(path: Path, hint: str) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] != 1:
            raise ValueError(f"schema {data['schema']}, this version reads 1")
        return dict(data)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path}: the record of a rollout can't be read: {error}", hint=hint) from error
