"""The objects of a release: read from files, folders, kustomizations and commands, and looked at before any is sent."""

from __future__ import annotations

import glob
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from deploy_guard.drivers.base import Context
from deploy_guard.drivers.kubernetes import records, yamls
from deploy_guard.drivers.kubernetes.config import KubernetesConfig
from deploy_guard.drivers.kubernetes.objects import PHASE, Manifest, Object
from deploy_guard.drivers.kubernetes.variables import Variables
from deploy_guard.errors import CommandFailed, PlanRejected
from deploy_guard.process import ending, run

_ENDINGS = (".yaml", ".yml", ".json")
_KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_PHASES = ("before", "after")
_MOST = 50
"""Problems that are listed; a wrong folder may hold thousands."""
_LARGEST = 32 * 1024 * 1024
"""Bytes that a command may print; charts that bring their definitions print a few millions."""
_SAID = 25
"""Lines that are quoted of what a command said before it failed."""


def read(config: KubernetesConfig, context: Context, namespace: str) -> list[Manifest]:
    """Return all objects of the release, in the order of the configuration.

    A folder gives its own ``*.yaml``, ``*.yml`` and ``*.json`` by name, none of folders below it (``k8s/**/*.yaml``
    does), or what kustomize makes of it. Variables are replaced in files and in what kustomize prints, not in what
    ``render`` prints, which has them in its environment.

    :raises PlanRejected: with everything that is wrong, each with its file and line.
    """
    reader = _Reader(config, context, namespace)
    for pattern in config.manifests or ():
        reader.pattern(pattern)
    if config.render:
        reader.render(config.render)
    return reader.result()


class _Reader:
    def __init__(self, config: KubernetesConfig, context: Context, namespace: str) -> None:
        self._config = config
        self._context = context
        self._namespace = namespace
        self._problems: list[str] = []
        self._found: list[Manifest] = []
        self._read: set[Path] = set()
        self._variables = Variables(context.variables, context.environ, strict=config.strict_variables)
        service = re.escape(records.prefix(context.service))
        self._own = re.compile(rf"deploy-guard-({service}-\d+(-\d+)?|before-{service}\.[0-9a-f]{{8}}(\.\d+)?)")

    def result(self) -> list[Manifest]:
        seen: dict[tuple[str, str, str, str], Manifest] = {}
        for one in self._found:
            group = str(one.body["apiVersion"]).rpartition("/")[0]
            other = seen.setdefault((group, one.kind, one.namespace or self._namespace, one.name), one)
            if other is not one:
                self._problems.append(f"{one.source}: {one.shown} stands in {other.source} already")
        if not self._problems and not self._found:
            self._problems.append("the manifests hold no objects")
        if self._problems:
            shown = self._problems[:_MOST]
            if more := len(self._problems) - len(shown):
                shown.append(f"and {more} more")
            raise PlanRejected(
                "the manifests are not right:\n" + "\n".join(f"  {problem}" for problem in shown),
                hint="mend them, then run again: nothing was sent",
            )
        return self._found

    # Where they come from

    def pattern(self, pattern: str) -> None:
        """Read what one entry of ``manifests`` names."""
        here = self._context.directory
        path = here / pattern
        if "\0" in pattern:
            self._problems.append(f"{pattern!r}: a null byte can't be part of a name")
            return
        try:
            if path.is_dir():
                self._folder(path)
                return
            if path.exists() or not glob.has_magic(pattern):
                self._file(path)
                return
        except OSError as error:  # a name that is too long, a folder that may not be looked into
            self._problems.append(f"{pattern}: it can't be read: {error.strerror or error}")
            return
        # Not pathlib's, which takes no absolute patterns; the folder's own name may hold brackets.
        paths = [here / one for one in glob.glob(pattern, root_dir=here, recursive=True)]  # noqa: PTH207
        files = sorted(one for one in paths if one.suffix in _ENDINGS and not one.is_dir())
        if not files:
            self._problems.append(f"{pattern}: no file ({', '.join(_ENDINGS)}) matches it")
        for file in files:
            self._file(file)

    def _folder(self, folder: Path) -> None:
        shown = self._shown(folder)
        if any((folder / name).is_file() for name in _KUSTOMIZATIONS):
            text = self._output(("kubectl", "kustomize", str(folder)), shown)
            self._documents(text, f"kustomize {shown}", replace=True)
            return
        files = sorted(one for one in folder.iterdir() if one.suffix in _ENDINGS and not one.is_dir())
        if not files:
            self._problems.append(f"{shown}: there is no file in this folder that ends with {', '.join(_ENDINGS)}")
        for file in files:
            self._file(file)

    def _file(self, path: Path) -> None:
        shown = self._shown(path)
        real = path.resolve()
        if real in self._read:  # two patterns may name one file
            return
        self._read.add(real)
        if path.name in _KUSTOMIZATIONS:
            folder = self._shown(path.parent)
            self._problems.append(f"{shown}: it tells kustomize what to build: name its folder, {folder}, instead")
            return
        if path.exists() and not path.is_file():
            self._problems.append(f"{shown}: it is not a file: reading it might never end")
            return
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except FileNotFoundError:
            self._problems.append(f"{shown}: there is no such file (paths start at {self._context.directory})")
        except OSError as error:
            self._problems.append(f"{shown}: it can't be read: {error.strerror or error}")
        except UnicodeDecodeError as error:
            self._problems.append(f"{shown}: it is not UTF-8: byte {error.start + 1} is none")
        else:
            self._documents(text, shown, replace=True)

    def render(self, argv: Sequence[str]) -> None:
        """Read what a command prints."""
        text = self._output(argv, "render")
        if text is not None and not text.strip():
            self._problems.append(f"render: {shlex.join(argv)} printed nothing")
            return
        self._documents(text, "render", replace=False)

    def _output(self, argv: Sequence[str], shown: str) -> str | None:
        context = self._context
        try:
            limit = self._config.render_timeout
            done = run(argv, timeout=limit, cwd=context.directory, env=context.environ, keep=_LARGEST)
        except CommandFailed as error:
            what = error.what.partition(":\n")[0]  # below it may stand what was printed so far, Secrets too
            self._problems.append(f"{shown}: {what}" + (f" ({error.hint})" if error.hint else ""))
            return None
        if not done.ok:
            said = "".join(f"\n    {line}" for line in done.stderr.strip().splitlines()[-_SAID:])
            self._problems.append(f"{shown}: {shlex.join(argv)} {ending(done.rc)}" + (f":{said}" if said else ""))
            return None
        if len(done.stdout) > _LARGEST and "bytes left out …" in done.stdout:
            self._problems.append(f"{shown}: {shlex.join(argv)} printed more than can be kept: split it into files")
            return None
        return done.stdout

    def _shown(self, path: Path) -> str:
        try:
            return str(path.relative_to(self._context.directory))
        except ValueError:  # elsewhere
            return str(path)

    # What is in them

    def _documents(self, text: str | None, source: str, *, replace: bool) -> None:
        if text is None:
            return
        try:
            for document in yamls.documents(text, self._change if replace else _unchanged):
                self._problems += [f"{source}:{line}: {what}" for line, what in dict.fromkeys(document.problems)]
                where = f"{source}:{document.line}"
                for body, name in _listed(document.data, f"{source}, document {document.number}"):
                    if not (problems := list(self._wrong(body))):
                        self._found.append(Manifest(body, name))
                    self._problems += [f"{where}: {name.removeprefix(source + ', ')}: {what}" for what in problems]
        except yamls.Unreadable as error:
            place = f":{error.line}" + (f":{error.column}" if error.column else "") if error.line else ""
            self._problems.append(f"{source}{place}: {error.what}")

    def _change(self, text: str, plain: bool) -> tuple[str, bool, list[str]]:
        new, problems = self._variables.replace(text)
        if new == text:
            return text, plain, problems
        # A plain ${REPLICAS} is what its value is; in the middle of other words it is text, whatever it holds.
        return new, plain and self._variables.alone(text), problems

    def _wrong(self, body: Any) -> Iterator[str]:
        """Say what is wrong with an object; never what a Secret holds."""
        if not isinstance(body, dict):
            yield f"an object is a mapping with apiVersion, kind and metadata, and this is {_noun(body)}"
            return
        kind, version, meta = (body.get(key) for key in ("kind", "apiVersion", "metadata"))
        for key, value in (("apiVersion", version), ("kind", kind)):
            if not isinstance(value, str) or not value:
                yield f"{key} is missing" if value is None or value == "" else f"{key} must be a text"
        if not isinstance(meta, dict):
            yield "metadata is missing" if meta is None else "metadata must be a mapping"
            return
        yield from self._named(meta)
        own = isinstance(body.get("type"), str) and body["type"].startswith("deploy-guard/")
        name = str(meta.get("name", ""))
        if kind == "Secret" and (own or self._own.fullmatch(name)):
            yield f"Secret/{name} is the name or type of deploy-guard's own records: choose another"
        yield from _phase(kind, version, meta)

    def _named(self, meta: Object) -> Iterator[str]:
        name, namespace = meta.get("name"), meta.get("namespace")
        if not name and meta.get("generateName"):
            yield "generateName gives a new object at each release, which could not be compared or taken back: use name"
        elif not isinstance(name, str) or not name:
            yield "metadata.name is missing" if not name else "metadata.name must be a text: put it in quotes"
        elif "/" in name or name in (".", ".."):
            yield f"metadata.name {name!r} can't be part of a path"
        if namespace is not None and not isinstance(namespace, str):
            yield "metadata.namespace must be a text"
        elif namespace and namespace != self._namespace:
            yield (
                f"it is for the namespace {namespace}, and this release is pinned to {self._namespace}: "
                "take the namespace out, or ship it with a service of its own"
            )


def _phase(kind: object, version: object, meta: Object) -> Iterator[str]:
    annotations = meta.get("annotations")
    if annotations is not None and not isinstance(annotations, dict):
        yield "metadata.annotations must be a mapping"
    elif annotations and PHASE in annotations:
        if annotations[PHASE] not in _PHASES:
            yield f"{PHASE} is {annotations[PHASE]!r}: write {' or '.join(_PHASES)}"
        if (kind, version) != ("Job", "batch/v1"):
            yield f"{PHASE} is for a Job of batch/v1, and this is a {kind} of {version}"


def _listed(data: Any, source: str) -> Iterable[tuple[Any, str]]:
    """Yield a document, or the entries of a list of objects, which may leave their kind to the list."""
    kind = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(kind, str) or not kind.endswith("List") or "items" not in data:
        yield data, source
    elif isinstance(data["items"], list):
        given = {"apiVersion": data.get("apiVersion"), "kind": kind.removesuffix("List")} if kind != "List" else {}
        for number, item in enumerate(data["items"], 1):
            yield from _listed({**given, **item} if isinstance(item, dict) else item, f"{source}, item {number}")
    elif data["items"] is not None:  # Helm's loops print "items:" for no items
        yield data, source


def _unchanged(text: str, plain: bool) -> tuple[str, bool, list[str]]:
    return text, plain, []


def _noun(value: object) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "something else")
