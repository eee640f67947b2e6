"""What one release run is: its options, its configuration, and the memory it shares with the process that watches."""

from __future__ import annotations

import gc
import mmap
import os
import struct
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Any

from deploy_guard.config import EnvironmentConfig
from deploy_guard.drivers.base import Release
from deploy_guard.flow.model import Mode
from deploy_guard.log import Sink
from deploy_guard.redact import Redactor
from deploy_guard.roots import Root
from deploy_guard.session.progress import Progress

RUN_VARIABLE = "DEPLOY_GUARD_RUN"
"""Set to the run's id in the process that runs the gates, and so in its children: a run inside a run is refused."""


class Stage(IntEnum):
    """How far the run has come, as the watching process sees it."""

    GATES = 0
    APPLYING = 1
    ROLLING_BACK = 2
    DONE = 3


class Board:
    """A page of memory that the session, its forks and the watching process share; no message can be lost with it.

    Only the session writes, but for ``escaped``, which a copy of the session (a fork inside a gate) writes.
    """

    _HEAD = struct.Struct("=dbbI")
    _ID_SPACE = 8192
    _ESCAPED = _HEAD.size + _ID_SPACE  # a byte of its own: two processes may write at once

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self._ESCAPED + 1)
        self._memory[: self._HEAD.size] = self._HEAD.pack(0.0, 0, 0, 0)

    def running(self, node_id: str, until: float) -> None:
        """Say which item runs now, and until when (monotonic seconds, 0 for no limit)."""
        raw = node_id.encode("utf-8", "backslashreplace")[: self._ID_SPACE]
        self._memory[self._HEAD.size : self._HEAD.size + len(raw)] = raw
        _, stage, code, _ = self._read()
        self._memory[: self._HEAD.size] = self._HEAD.pack(until, stage, code, len(raw))

    def idle(self) -> None:
        """Say that no item runs."""
        self.running("", 0.0)

    @property
    def current(self) -> tuple[str, float]:
        """The running item's id (empty when idle) and its limit."""
        until, _, _, length = self._read()
        return bytes(self._memory[self._HEAD.size : self._HEAD.size + length]).decode("utf-8", "replace"), until

    @property
    def stage(self) -> Stage:
        """How far the run has come."""
        return Stage(self._read()[1])

    @stage.setter
    def stage(self, stage: Stage) -> None:
        until, _, code, length = self._read()
        self._memory[: self._HEAD.size] = self._HEAD.pack(until, stage, code, length)

    @property
    def code(self) -> int:
        """The exit code, once the stage is ``DONE``."""
        return self._read()[2]

    def done(self, code: int) -> None:
        """Say that the record is complete and what the exit code is."""
        until, _, _, length = self._read()
        self._memory[: self._HEAD.size] = self._HEAD.pack(until, Stage.DONE, code, length)

    def escape(self) -> None:
        """Called in a fork of the session that went on running pytest."""
        self._memory[self._ESCAPED] = 1

    @property
    def escaped(self) -> bool:
        """True when a fork of the session went on as if it were the session."""
        return bool(self._memory[self._ESCAPED])

    def _read(self) -> tuple[float, int, int, int]:
        until, stage, code, length = self._HEAD.unpack(self._memory[: self._HEAD.size])
        return until, stage, code, length


@dataclass(frozen=True)
class Death:
    """How the process that ran the gates ended without finishing, told by the one that watched it.

    :param text: for people: ``ended by SIGKILL``, ``ended itself with exit code 0 (os._exit)``.
    :param item: the node id of what was running, or an empty text.
    :param timed_out: it was ended from outside because it ran past its limit.
    :param reports: what the dead process had recorded, oldest first (``session.spool``).
    :param interrupted: the signal that the run had been told to end with, or an empty text.
    :param stage: how far the run had come.
    """

    text: str
    item: str
    timed_out: bool
    reports: tuple[dict[str, Any], ...]
    interrupted: str = ""
    stage: Stage = Stage.GATES

    @property
    def left_changes(self) -> bool:
        """It had begun to apply: where no record tells of that any more, nobody knows what is there now."""
        return self.stage in (Stage.APPLYING, Stage.ROLLING_BACK)


LOST = "the rollout had begun, and what is needed to go back is not in {folder} any more: somebody removed it"
"""The reason of a run that can't be finished, with the folder of the state."""


@dataclass
class Run:
    """One release run, as every part of the session knows it.

    :param unnamed: the gate roots that the command line did not name; they are collected all the same.
    :param named: the command line named something to collect.
    :param taken_back: in a run that only goes back, the release that it goes back from.
    :param screen: a handle of where people watch, whatever pytest captures; -1 for none.
    :param progress: shows them what a step says while it goes on; silent but in the session that rolls out.
    """

    id: str
    env: str
    mode: Mode
    version: str | None
    config: EnvironmentConfig
    folder: Path
    roots: tuple[Root, ...]
    started: datetime
    redactor: Redactor
    arguments: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()
    named: bool = True
    tag: bool = False
    own_junit: bool = True
    board: Board = field(default_factory=Board)
    spool: int = -1
    facts: int = -1
    log: Sink | None = None
    death: Death | None = None
    pid: int = field(default_factory=os.getpid)
    _paused: bool = False
    interrupted: str = ""
    taken_back: Release | None = None
    screen: int = -1
    progress: Progress = field(default_factory=Progress)

    def pause_collector(self) -> None:
        """Look for no garbage while pytest starts and collects: nearly all that is made then stays to the end."""
        self._paused = gc.isenabled()
        gc.disable()

    def resume_collector(self) -> None:
        """Look for garbage again, but not in what is there already; each gate is cheaper for it."""
        gc.freeze()
        if self._paused:
            gc.enable()
            self._paused = False

    @property
    def state_folder(self) -> Path:
        """Where the record of an unfinished rollout lives."""
        return self.config.directory / ".deploy-guard"

    def for_worker(self) -> dict[str, Any]:
        """What an xdist worker is told; plain data."""
        return {
            "id": self.id,
            "env": self.env,
            "mode": str(self.mode),
            "version": self.version or "",
            "config": str(self.config.path or ""),
            "directory": str(self.config.directory),
            "folder": str(self.folder),
            "unnamed": self.unnamed,
            "named": self.named,
            "roots": [(str(root.path), root.name, root.package) for root in self.roots],
        }
