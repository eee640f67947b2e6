"""Was everything collected that stands on disk, and did nothing on the command line thin it out?"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from deploy_guard.flow.model import Reason, Severity
from deploy_guard.roots import Root
from deploy_guard.session.gates import PHASES

_PATTERNS = ("test_*.py", "*_test.py")
_OPTIONS = {
    "lf": "--last-failed",
    "stepwise": "--stepwise",
    "noconftest": "--noconftest",
    "confcutdir": "--confcutdir",
    "runxfail": "--runxfail",
    "setuponly": "--setup-only",
    "setupplan": "--setup-plan",
    "collectonly": "--collect-only",
    "showfixtures": "--fixtures",
    "show_fixtures_per_test": "--fixtures-per-test",
    "cacheshow": "--cache-show",
}


def option_problems(config: pytest.Config) -> list[Reason]:
    """Name the options that make pytest run less than all, in ways that no result shows."""
    given = [name for dest, name in _OPTIONS.items() if config.getoption(dest, False)]
    if config.option.deploy_standard and "--noconftest" in given:
        given.remove("--noconftest")  # the standard gates have no conftest, and those of other tests stay out
    problems = [
        _partial("option", f"{name} does not run every gate as it is written: a release needs that; remove it", name)
        for name in given
    ]
    problems += [
        _partial("argument", f"{arg} names a single test: a release needs every gate; name the folder", arg)
        for arg in config.args
        if "::" in arg
    ]
    for ini, prefix in (("python_functions", "test"), ("python_classes", "Test")):
        patterns = config.getini(ini)
        if not any(prefix.startswith(p) or (p and fnmatch(prefix + "_x", p)) for p in patterns):
            problems.append(
                _partial(
                    "option",
                    f"{ini} = {' '.join(patterns)} hides tests named {prefix}*: gates keep pytest's own names. "
                    f"Add {prefix} to {ini}, or give the gates an ini file of their own",
                    ini,
                )
            )
    return problems


def file_problems(
    roots: Iterable[Root], collected: set[Path], with_tests: set[Path], loaded: set[Path]
) -> list[Reason]:
    """Compare the test files on disk with those that were collected.

    :param collected: the files whose collection passed.
    :param with_tests: the files in which at least one test was found.
    :param loaded: the files of all plugins, conftests among them.
    """
    problems: list[Reason] = []
    for root in roots:
        folders: set[Path] = set()
        for path in test_files(root.path.resolve()):
            shown = _shown(path, root)
            folders.update(folder for folder in path.parents if root.holds(folder))
            if path not in collected:
                problems.append(_partial("not-collected", f"{shown} was not collected: its gates did not run", shown))
            elif path not in with_tests:
                problems.append(
                    _partial(
                        "no-tests", f"{shown} was collected, and no test was found in it: remove or mend it", shown
                    )
                )
        for folder in sorted(folders):
            conftest = (folder / "conftest.py").resolve()
            if conftest.is_file() and conftest not in loaded:
                shown = _shown(conftest, root)
                problems.append(
                    _partial("not-loaded", f"{shown} was not loaded: its rollback fixtures are gone", shown)
                )
    return problems


def hidden_tests(items: Iterable[pytest.Item]) -> list[Reason]:
    """Name what looks like a test in a file of gates, by its name or its mark, and was not collected.

    pytest leaves out classes with ``__init__``, what ``-p no:unittest`` or an ini option hides, and wrong names.
    """
    names: dict[pytest.Module, set[str]] = {}
    functions: set[object] = set()
    methods: dict[type, set[str]] = {}
    for item in items:
        module = item.getparent(pytest.Module)
        if module is None or not isinstance(item, pytest.Function):
            continue
        known = names.setdefault(module, set())
        name = item.originalname or item.name
        functions.add(item.function)
        if item.cls is None:
            known.add(name)
        for cls in item.cls.__mro__ if item.cls is not None else ():
            methods.setdefault(cls, set()).add(name)
    problems: list[Reason] = []
    for module, known in names.items():
        hidden: list[str] = []
        for name, value in list(vars(module.obj).items()):
            if inspect.isclass(value):
                hidden += [f"{name}::{test}" for test in _hidden_methods(name, value, methods)]
            elif _is_test(name, value) and name not in known and value not in functions:
                hidden.append(name)
        for name in hidden:
            shown = f"{module.nodeid}::{name}"
            text = f"{shown} looks like a gate, and pytest did not collect it: "
            text += "mend its name (test_*, in classes Test* without __init__) or the option that hides it"
            problems.append(_partial("hidden-test", text, shown))
    return problems


def _hidden_methods(name: str, cls: type, collected: dict[type, set[str]]) -> list[str]:
    if cls.__dict__.get("__test__", True) is False:
        return []
    known = collected.get(cls, set())
    is_test = bool(known) or name.startswith("Test") or _is_marked(cls) or _is_test_case(cls)
    return [
        test
        for test, value in vars(cls).items()
        if test not in known and _is_test(test, value) and (is_test or _is_marked(value))
    ]


def _is_test_case(cls: type) -> bool:
    return any(base.__module__ == "unittest.case" and base.__name__ == "TestCase" for base in cls.__mro__)


def _is_test(name: str, value: object) -> bool:
    # Before pytest 8.4 a fixture was a function with this attribute.
    if not inspect.isfunction(value) or hasattr(value, "_pytestfixturefunction"):
        return False
    return getattr(value, "__test__", True) and (name.startswith("test_") or _is_marked(value))


def _is_marked(value: object) -> bool:
    marks = getattr(value, "__dict__", {}).get("pytestmark", [])
    marks = marks if isinstance(marks, (list, tuple)) else [marks]
    return any(getattr(mark, "name", "") in PHASES for mark in marks)


def test_files(root: Path) -> Iterator[Path]:
    """Yield the test files under a gate root by pytest's default names, resolved; links are followed once."""
    visited: set[Path] = set()
    if root.is_file():
        yield root.resolve()
        return
    for name, folders, files in os.walk(root, followlinks=True):
        here = Path(name).resolve()
        if here in visited or (here / "pyvenv.cfg").is_file():
            folders.clear()
            continue
        visited.add(here)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in ("__pycache__", "node_modules"))
        for file in sorted(files):
            if any(fnmatch(file, pattern) for pattern in _PATTERNS):
                yield (Path(name) / file).resolve()


def _shown(path: Path, root: Root) -> str:
    if root.package and root.holds(path):
        return root.id_of(path)
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _partial(code: str, text: str, node_id: str) -> Reason:
    return Reason(f"partial-{code}", Severity.RECOVERABLE, text, node_id)
