"""The record of a rollout that is not finished, in one file for each environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy_guard.errors import ConfigurationError
from deploy_guard.ledger.files import remove_durably, write_json


class FileStore:
    """Keeps ``<folder>/<env>.unfinished.json`` while a rollout is under way, and ``<env>.last.json`` after it.

    :param folder: beside the configuration file, ``.deploy-guard``.
    """

    def __init__(self, folder: Path, env: str) -> None:
        self._unfinished = folder / f"{env}.unfinished.json"
        self._last = folder / f"{env}.last.json"

    def save(self, record: Mapping[str, Any]) -> None:
        """Keep the record; it survives a power loss once this returns. ``OSError`` when it can't be written."""
        write_json(self._unfinished, record)

    def load(self) -> dict[str, Any] | None:
        """Return the record of a rollout whose apply had begun, or None.

        A record whose apply never began is nothing to finish: the target was not touched.

        :raises ConfigurationError: when there is a record that can't be read; it is left as it is.
        """
        try:
            data = json.loads(self._unfinished.read_text(encoding="utf-8"))
            if data["schema"] != 1:
                raise ValueError(f"schema {data['schema']}, this version reads 1")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"{self._unfinished}: the record of an unfinished rollout can't be read: {error}",
                hint="check what is running on the target, then move the file away",
            ) from error
        return data if data["begun"] else None

    def last(self) -> dict[str, Any]:
        """Return the summary of the last finished rollout; empty when there is none, or none that can be read."""
        try:
            data = json.loads(self._last.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # it informs only; nothing is decided by its absence
            return {}
        return data if isinstance(data, dict) else {}

    def clear(self, summary: Mapping[str, Any]) -> None:
        """Nothing is unfinished any more."""
        write_json(self._last, summary)
        remove_durably(self._unfinished)
