"""Release notes as text, Markdown and JSON, and written to a file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deploy_guard.errors import ConfigurationError
from deploy_guard.ledger.files import write_atomically
from deploy_guard.probes.repo import UNSHALLOW
from deploy_guard.report.notes import OTHER, Entry, Notes

TITLES = {
    "breaking": "Breaking changes",
    "feat": "Features",
    "fix": "Fixes",
    "perf": "Performance",
    "revert": "Reverts",
    "refactor": "Refactoring",
    "docs": "Documentation",
    "test": "Tests",
    "build": "Build",
    "ci": "Continuous integration",
    "style": "Style",
    "chore": "Chores",
    OTHER: "Other changes",
}
_SHALLOW = f"This clone is shallow: commits and tags may be missing here ({UNSHALLOW})."
_MARKUP = re.compile(r"([\\`*_{}\[\]<>|~&$@])")


def as_text(notes: Notes) -> str:
    """Return the notes for people, as plain text."""
    lines = [notes.title]
    facts = (("branch", notes.branch), ("commit", notes.commit), ("date", notes.date[:10]), ("range", notes.range))
    lines += [f"{key:<8}{value}" for key, value in facts if value]
    if notes.shallow:
        lines += ["", _SHALLOW]
    for kind, entries in notes.groups():
        lines += ["", TITLES[kind]] if kind else [""]
        lines += [f"  {entry.short}  {_said(entry, kind)} ({entry.author})" for entry in entries]
    if rest := _rest(notes):
        lines += ["", rest]
    return "\n".join(lines) + "\n"


def as_markdown(notes: Notes) -> str:
    """Return the notes as Markdown; nothing that a commit says becomes markup or a mention."""
    lines = [f"# {_plain(notes.title)}", ""]
    about = [f"`{notes.commit}`", notes.date[:10]]
    about += [f"branch {_plain(notes.branch)}"] if notes.branch else []
    lines += [f"{', '.join(about)}: {_plain(notes.range)}."]
    if notes.shallow:
        lines += ["", _SHALLOW]
    for kind, entries in notes.groups():
        lines += ["", f"## {TITLES[kind]}", ""] if kind else [""]
        lines += [f"- {_plain(_said(entry, kind))} ({_plain(entry.author)}, `{entry.short}`)" for entry in entries]
    if rest := _rest(notes):
        lines += ["", rest]
    return "\n".join(lines) + "\n"


def as_json(notes: Notes) -> str:
    """Return the notes for programs; ``schema`` changes when a key does."""
    data: dict[str, Any] = {"schema": 1, **asdict(notes)}
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


FORMATS: dict[str, Callable[[Notes], str]] = {"txt": as_text, "md": as_markdown, "json": as_json}


def render(notes: Notes, fmt: str = "txt") -> str:
    """Return the notes as ``txt``, ``md`` or ``json``."""
    if fmt not in FORMATS:
        raise ConfigurationError(f"there is no format {fmt!r} for release notes", hint=f"use {', '.join(FORMATS)}")
    return FORMATS[fmt](notes)


def write(notes: Notes, folder: Path, fmt: str = "txt", *, name: str = "RELEASE_NOTES") -> Path:
    """Write ``RELEASE_NOTES.txt``, ``.md`` or ``.json``, whole or not at all, and return its path.

    :raises OSError: when the folder can't be written to; an older file is as it was.
    """
    path = folder / f"{name}.{fmt}"
    write_atomically(path, render(notes, fmt))
    return path


def _said(entry: Entry, kind: str) -> str:
    """Return a commit's line; under the title of its type the type is not repeated."""
    if kind in ("", "breaking", OTHER):
        return entry.subject
    return f"{entry.scope}: {entry.text}" if entry.scope else entry.text


def _rest(notes: Notes) -> str:
    rest = notes.total - len(notes.entries)
    return f"and {rest} earlier commit{'s' if rest != 1 else ''}" if rest > 0 else ""


def _plain(text: str) -> str:
    """Return text in which Markdown, HTML and mentions mean nothing."""
    # A mention is told by the word after the sign: a zero-width space between them keeps people from being called.
    return _MARKUP.sub(lambda m: {"<": "&lt;", ">": "&gt;", "&": "&amp;", "@": "@\u200b"}.get(m[0], f"\\{m[0]}"), text)
