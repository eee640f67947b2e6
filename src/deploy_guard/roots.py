"""Gate roots: the folders and installed packages whose gates all have to run."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True)
class Root:
    """One gate root.

    :param path: the folder, or a single file; not resolved.
    :param name: as it is written: ``gates``, or ``acme_gates.gates`` for a package, whose gates' ids begin with it.
    :param package: the distribution that it comes from, with its version (``acme-gates 3.4.0``); empty for a folder.
    """

    path: Path
    name: str
    package: str = ""

    @property
    def label(self) -> str:
        """How people know it: ``gates/``, ``acme-gates 3.4.0``."""
        return self.package or f"{self.name.rstrip('/')}/"

    def holds(self, path: Path) -> bool:
        """True when a resolved path lies in this root."""
        own = self.path.resolve()
        return path == own or own in path.parents

    def id_of(self, path: Path) -> str:
        """Return how ids of packaged gates in this file begin: never with the place of an installation."""
        inside = path.resolve().relative_to(self.path.resolve()).as_posix()
        return self.name if inside == "." else f"{self.name}/{inside}"


def packaged(name: str) -> Root | None:
    """Return the root that an importable package is, by its dotted name; None when there is none.

    No code of the package is run: it is other people's, and the process that asks outlives the gates.
    """
    folder = locate(name)
    return Root(folder, name, _distribution(name.split(".")[0])) if folder is not None else None


def locate(name: str) -> Path | None:
    """Return the folder of an importable package without importing it, nor the packages that it lies in."""
    if not _DOTTED.fullmatch(name):
        return None
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # a module that is loaded and says nothing of where it came from, such as __main__
        return None
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        folder = Path(place).joinpath(*rest)
        if folder.is_dir():
            return folder
    return None


def holding(roots: Iterable[Root], path: Path) -> Root | None:
    """Return the innermost root that holds a path; None when none does."""
    resolved = path.resolve()
    found = [root for root in roots if root.holds(resolved)]
    return max(found, key=lambda root: len(root.path.resolve().parts), default=None)


def _distribution(top: str) -> str:
    import importlib.metadata

    names = [top] if top == "deploy_guard" else importlib.metadata.packages_distributions().get(top, [])
    for name in names:
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return f"{found.metadata['Name']} {found.version}"
    return f"{top} (not installed as a distribution)"
