"""``init``: a starter in the user's own repository. What is there already is never touched."""

from __future__ import annotations

import json
import re
from argparse import Namespace
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from deploy_guard import configfile
from deploy_guard.errors import ConfigurationError, DeployGuardError
from deploy_guard.roots import locate

STARTER = Path(__file__).resolve().parent.parent / "starter"
STATE = ".deploy-guard"
_IGNORED = (".deploy/", f"{STATE}/*", f"!{STATE}/schema.json", "reports/", "RELEASE_NOTES.*")
_NEXT = """
next, in this folder:
  VERSION=v0.1.0 pytest --deploy-env=dev --no-deploy gates/   # runs the gates and ships nothing
  VERSION=v0.1.0 pytest --deploy-env=dev gates/               # ships a small demonstration service to this machine
  deploy-guard rollback --env dev                             # takes it back: nothing is left
"""
_NEXT_OF_OTHERS = """
next, in this folder:
  pytest --deploy-env=ENV --no-deploy   # runs the gates and ships nothing
"""

File = tuple[str, bytes]
"""A path relative to the folder, and its content."""


def init(arguments: Namespace) -> int:
    """Write what is missing, and say what was written, what was kept and what to do next."""
    here = Path.cwd()
    files = list(_templates(arguments.package) if arguments.package else _starter(here))
    files.append((f"{STATE}/schema.json", _schema()))
    written = [name for name, content in files if _write(here / name, content)]
    said = [f"{'wrote' if name in written else 'kept ':<7} {name}" for name, _ in files]
    if added := _ignore(here):
        said.append(f"{'added':<7} to .gitignore: {', '.join(added)}")
    print("\n".join(said))
    print((_NEXT if f"{STATE}/hello/server.py" in written else _NEXT_OF_OTHERS).rstrip())
    return 0


def _starter(here: Path) -> Iterator[File]:
    """Yield the configuration, the standard gates as files of the user's own, and examples beside them."""
    found = configfile.in_folder(here)
    if found is None:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", here.name).strip("._-") or "service"
        text = (STARTER / configfile.FILE).read_text(encoding="utf-8")
        yield configfile.FILE, text.replace("{name}", name).encode()
        yield f"{STATE}/hello/server.py", (STARTER / "hello/server.py").read_bytes()
    else:
        yield found.name, b""
    if any((here / "gates").glob("**/test_*.py")):
        print("kept    gates/: it has gates of its own, and more would have to pass too")
        return
    standard = locate("deploy_guard.gates")
    assert standard is not None
    for folder in (standard, STARTER / "gates"):
        for path in sorted(folder.glob("*.py")):
            if path.name != "__init__.py":
                yield f"gates/{path.name}", path.read_bytes()


def _templates(package: str) -> Iterator[File]:
    """Yield the files under ``templates/`` of an installed package.

    :raises ConfigurationError: when it is not installed, or has none.
    """
    tops = [package.replace("-", "_")]
    wanted = _normal(package)
    tops += [top for top, names in metadata.packages_distributions().items() if wanted in map(_normal, names)]
    places = [folder for top in dict.fromkeys(tops) if (folder := locate(top)) is not None]
    if not places:
        raise ConfigurationError(f"the package {package} is not installed", hint=f"pip install {package}")
    for place in places:
        templates = place / "templates"
        if templates.is_dir():
            return _files(templates)
    raise ConfigurationError(
        f"the package {package} has no templates: there is no folder templates in {', '.join(p.name for p in places)}",
        hint="ask its maintainers, or start with `deploy-guard init` alone",
    )


def _files(folder: Path) -> Iterator[File]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        # The folder itself may be a package, so that its files are found; a copy is none.
        if path.is_file() and "__pycache__" not in path.parts and name != "__init__.py":
            yield name, path.read_bytes()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _schema() -> bytes:
    from deploy_guard.cli.schema import schema

    return (json.dumps(schema(), indent=2) + "\n").encode()


def _write(path: Path, content: bytes) -> bool:
    """Write a file that is not there yet; True if it was written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        if path.parent.is_dir():
            return False
        raise DeployGuardError(f"{path.parent} is not a folder", hint="move it away, or start elsewhere") from None
    except OSError as error:
        raise DeployGuardError(f"{path} can't be written: {error.strerror}", hint="check the folder's mode") from error
    return True


def _ignore(here: Path) -> list[str]:
    """Keep git from what runs write; returns the lines that were added. Outside a repository there is nothing to do."""
    file = here / ".gitignore"
    if not file.is_file() and not any((folder / ".git").exists() for folder in (here, *here.parents)):
        return []
    text = file.read_text(encoding="utf-8", errors="surrogateescape") if file.is_file() else ""
    missing = _missing(text.splitlines())
    if missing:
        begin = "" if not text or text.endswith("\n") else "\n"
        with file.open("a", encoding="utf-8") as appended:
            appended.write(begin + "".join(f"{line}\n" for line in missing))
    return missing


def _missing(lines: Iterable[str]) -> list[str]:
    there = {line.strip().lstrip("/") for line in lines}
    if f"{STATE}/" in there or STATE in there:  # all of it, by the user's own decision
        there.update((f"{STATE}/*", f"!{STATE}/schema.json"))
    return [line for line in _IGNORED if line not in there]
