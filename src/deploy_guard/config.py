"""The configuration: one file, validated whole before anything runs; each error names file, key, value and fix."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, field

from deploy_guard import configfile
from deploy_guard.configfile import find
from deploy_guard.duration import DURATION_SCHEMA, seconds_of
from deploy_guard.errors import ConfigurationError
from deploy_guard.headers import VARIABLE, is_secret, variables_in
from deploy_guard.hostconfig import Days, HostLimits, Limits
from deploy_guard.probes.versions import PLACE, Versions, is_tag_name
from deploy_guard.roots import Root, locate, packaged
from deploy_guard.tables import Check, Problem, Reads, Table, closest, keys, read

__all__ = ["Configuration", "EnvironmentConfig", "HostLimits", "Limits", "Releases", "find", "gate_roots", "load"]

DEFAULT_ENVIRONMENTS = ("dev", "stage", "prod")
DRIVERS = ("local", "compose", "kubernetes")
UNGUARDED = ("dev",)
"""Environments where the release guard is off unless the configuration says otherwise."""
_SECRET_KEY = re.compile(r"(password|passwd|secret|token|api[-_]?key|private[-_]?key|credential)", re.IGNORECASE)
_NOT_SECRET = ("secrets",)


def _group(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _http(value: str) -> None:
    from urllib.parse import urlsplit

    if urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname:
        raise ValueError("write a URL that begins with http:// or https://")


def _known_ledger(value: str) -> None:
    if value != "target" and not value.startswith(("sqlite:///", "postgresql://")):
        raise ValueError('use sqlite:///FILE, postgresql://… or "target"')


def _names_a_tag(value: str) -> None:
    if value.count(PLACE) != 1:
        raise ValueError('write the place of the version into it, once, as in "shop/{version}"')
    if not is_tag_name(value.replace(PLACE, "v1.2.3")):
        raise ValueError("git accepts no tag of that name")


def _regular(value: str) -> None:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"this is no regular expression: {error}") from error


def _relative(value: tuple[str, ...]) -> None:
    if any(not path.strip() or "\0" in path or Path(path).is_absolute() for path in value):
        raise ValueError("write paths that start at the configuration file's folder")


# In patterns: $ alone would let a line break follow.
Duration = Annotated[float, Reads(seconds_of), Meta(extra_json_schema=DURATION_SCHEMA)]
Group = Annotated[
    tuple[str, ...],
    Reads(_group),
    Meta(
        min_length=1,
        description="the name of a variable, or a list of such names",
        extra_json_schema={
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]
        },
    ),
]
_HEADER = r"^[A-Za-z0-9-]+(?!\n)$"
Header = Annotated[str, Meta(pattern=_HEADER, description="a name of letters, digits and hyphens")]
Headers = Annotated[dict[Header, str], Meta(extra_json_schema={"propertyNames": {"pattern": _HEADER}})]
Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(?!\n)$",
        description="a name of letters, digits, dots, hyphens and underscores that begins with a letter or a digit",
    ),
]
Remote = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._/-]*(?!\n)$", description="the name of a git remote, such as origin")
]
Roots = Annotated[tuple[str, ...], Meta(min_length=1, extra_json_schema={"default": ["gates"]})]
Samples = Annotated[int, Meta(ge=1, le=20)]


class Releases(Struct, frozen=True):
    """How releases are named, and how strictly they are guarded.

    :param guard: the working tree, the commit, the version and the tag are judged.
    :param versions: what a version and its tag look like.
    :param paths: the folders and files that the service is made of, beside the configuration file; empty for the
        whole repository.
    :param remote: the name of the git remote that knows all tags.
    """

    guard: bool = True
    versions: Versions = field(default_factory=Versions)
    paths: tuple[str, ...] = ()
    allow_downgrade: bool = False
    remote: str = "origin"


class _Shared(Table, frozen=True):
    required_variables: tuple[str, ...] | None = None
    secrets: tuple[Group, ...] | None = None
    severities: dict[str, Literal["critical", "recoverable", "warn"]] = field(default_factory=dict)
    service_url: Annotated[str, Check(_http)] | None = None
    version_url: str | None = None
    version_path: str | None = None
    version_header: Header | None = None
    version_samples: Samples | None = None
    health_url: str | None = None
    service_headers: Headers = field(default_factory=dict)
    ca_bundle: str | None = None
    certificate_days: Days | None = None
    timeout: Duration | None = None
    gate_timeout: Duration | None = None
    rollback: Literal["auto", "off"] | None = None
    ledger: Annotated[str, Check(_known_ledger)] | None = None
    release_guard: bool | None = None
    tag: Annotated[str, Check(_names_a_tag)] | None = None
    tag_remote: Remote | None = None
    version_pattern: Annotated[str, Check(_regular)] | None = None
    pre_releases: bool | None = None
    allow_downgrade: bool | None = None
    paths: Annotated[tuple[str, ...], Check(_relative)] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    host: dict[str, Any] = field(default_factory=dict)


class Env(_Shared, frozen=True):
    """``[env.X]``, without the drivers' own tables."""

    driver: str | None = None


class File(_Shared, frozen=True):
    """The whole file, its drivers' tables in ``[env.X]`` apart."""

    name: Name | None = None
    extends: str | None = None
    gates: Roots | None = None
    environments: Annotated[tuple[str, ...], Meta(min_length=1)] | None = None
    variables: tuple[str, ...] = ("VERSION", "COMMIT")
    driver: str | None = None
    env: dict[str, Env] = field(default_factory=dict)
    local: dict[str, Any] = field(default_factory=dict)
    compose: dict[str, Any] = field(default_factory=dict)
    kubernetes: dict[str, Any] = field(default_factory=dict)


class EnvironmentConfig(Struct, frozen=True):
    """The configuration as one environment sees it. Timeouts are in seconds.

    :param driver_config: the driver's own table, the environment's merged over the general one.
    :param gates: the gate roots; none where neither the file names any nor the default one, ``gates/``, exists.
    :param severities: severities that this service raises, by ``package::test`` or a gate's whole id.
    :param secret_groups: of each group one variable must be set.
    :param directory: the folder of the configuration file; relative paths start here.
    :param path: the configuration file; None when there is none.
    """

    name: str
    env: str
    environments: tuple[str, ...]
    driver: str | None
    driver_config: Mapping[str, Any]
    timeout: float
    gate_timeout: float
    required_variables: tuple[str, ...]
    secret_groups: tuple[tuple[str, ...], ...]
    service_url: str | None
    version_url: str
    version_path: str
    version_header: str | None
    version_samples: int
    health_url: str | None
    service_headers: Mapping[str, str]
    ca_bundle: Path | None
    certificate_days: Days
    settings: Mapping[str, Any]
    host: HostLimits
    releases: Releases
    rollback: str
    ledger: str | None
    variables: tuple[str, ...]
    gates: tuple[str, ...]
    severities: Mapping[str, str]
    directory: Path
    path: Path | None

    @property
    def hidden(self) -> tuple[tuple[str, ...], ...]:
        """The names of the variables whose values are redacted: the secrets, and what secret headers are made of."""
        used = (variables_in(value) for name, value in self.service_headers.items() if is_secret(name))
        return (*self.secret_groups, *filter(None, used))


class Configuration(Struct, frozen=True):
    """A whole configuration file, valid."""

    _file: File
    _of_drivers: Mapping[str, Mapping[str, Any]]
    directory: Path
    path: Path | None

    @property
    def environments(self) -> tuple[str, ...]:
        """The allowed environments: as configured, or dev, stage, prod and every ``[env.X]``."""
        if self._file.environments is not None:
            return self._file.environments
        return tuple(dict.fromkeys([*DEFAULT_ENVIRONMENTS, *self._file.env]))

    def for_env(self, env: str) -> EnvironmentConfig:
        """Return what holds for one environment; ``ConfigurationError`` for one that is not allowed."""
        if env not in self.environments:
            where = self.path or "the default configuration"
            raise ConfigurationError(
                f"--deploy-env={env}: there is no environment {env!r} in {where}",
                hint=f"use one of {', '.join(self.environments)}",
            )
        file, own = self._file, self._file.env.get(env, Env())

        def pick(name: str, default: Any) -> Any:
            for source in (own, file):
                value = getattr(source, name)
                if value is not None:
                    return value
            return default

        driver = own.driver or file.driver
        general = getattr(file, driver, {}) if driver in DRIVERS else {}
        specific = self._of_drivers.get(env, {}).get(driver, {}) if driver else {}
        host, problems = _host(file, env)
        if host is None:
            raise _invalid(f"{self.path} is not valid for {env}", map(_told, problems))
        url = pick("service_url", None)
        bundle = pick("ca_bundle", None)
        return EnvironmentConfig(
            name=file.name or self.directory.resolve().name or "service",
            env=env,
            environments=self.environments,
            driver=driver,
            driver_config=_merged(general, specific),
            timeout=pick("timeout", 300.0),
            gate_timeout=pick("gate_timeout", 60.0),
            required_variables=pick("required_variables", ("VERSION",) if url else ("SERVICE_URL", "VERSION")),
            secret_groups=pick("secrets", (("API_KEY", "TOKEN"),)),
            service_url=url,
            version_url=pick("version_url", "/version"),
            version_path=pick("version_path", "version"),
            version_header=pick("version_header", None),
            version_samples=pick("version_samples", 3),
            health_url=pick("health_url", None),
            service_headers=_merged(file.service_headers, own.service_headers),
            ca_bundle=self.directory / bundle if bundle else None,
            certificate_days=pick("certificate_days", Days(warn=21, fail=7)),
            settings=_merged(file.settings, own.settings),
            host=host,
            releases=Releases(
                guard=pick("release_guard", env not in UNGUARDED),
                versions=Versions(pick("tag", PLACE), pick("version_pattern", ""), pick("pre_releases", False)),
                paths=pick("paths", ()),
                allow_downgrade=pick("allow_downgrade", False),
                remote=pick("tag_remote", "origin"),
            ),
            rollback=pick("rollback", "auto"),
            ledger=pick("ledger", None),
            variables=file.variables,
            gates=file.gates or (("gates",) if (self.directory / "gates").exists() else ()),
            severities=_merged(file.severities, own.severities),
            directory=self.directory,
            path=self.path,
        )


def load(path: Path | None, *, directory: Path, override: Mapping[str, Any] | None = None) -> Configuration:
    """Read and validate a configuration file; None gives the defaults.

    :param directory: where relative paths start.
    :param override: tables from the command line, which lie over those of the file.
    :raises ConfigurationError: with one line for each thing that is wrong.
    """
    raw = configfile.read(path) if path is not None else {}
    problems = list(_secrets_in(raw, ()))
    if "extends" in raw:
        raw = _merged(_base(raw["extends"], path), {k: v for k, v in raw.items() if k != "extends"})
    file = _validated(raw, problems, f"{path or 'the default configuration'} is not valid")
    if override:
        _validated(override, list(_secrets_in(override, ())), "the command line is not valid")
        raw = _merged(raw, override)
        file = _validated(raw, [], f"the command line does not go with {path}")
    return Configuration(file, _of_drivers(raw), directory, path)


def _validated(raw: Mapping[str, Any], problems: list[str], what: str) -> File:
    problems += _unknown_environment_keys(raw)
    file, found = read(File, _without_drivers(raw))
    problems += map(_told, found)
    if file is not None:
        problems += _environment_problems(file)
    if problems or file is None:
        raise _invalid(what, problems)
    return file


def _invalid(what: str, problems: Iterable[str]) -> ConfigurationError:
    return ConfigurationError(f"{what}:\n  " + "\n  ".join(dict.fromkeys(problems)))


def gate_roots(config: EnvironmentConfig) -> list[Root]:
    """Return the gate roots, folders and packages.

    :raises ConfigurationError: for one that does not exist.
    """
    roots = []
    for name in config.gates:
        folder = config.directory / name
        root = Root(folder, name) if folder.exists() else packaged(name)
        if root is None:
            raise ConfigurationError(
                f"{config.path}: gates: {name!r} is neither a folder beside the file nor an installed package",
                hint="create the folder, install the package, or remove the entry",
            )
        roots.append(root)
    return roots


def _base(name: object, path: Path | None) -> dict[str, Any]:
    package, colon, file = str(name).partition(":")
    if not isinstance(name, str) or not colon or not package or not file:
        raise ConfigurationError(f'{path}: extends = {name!r}: write "package:file.toml"')
    folder = locate(package)
    if folder is None:
        raise ConfigurationError(f"{path}: extends: the package {package} is not installed", hint="install it")
    return configfile.read(folder / file)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        known = merged.get(key)
        merged[key] = _merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged


def _environments(raw: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the tables ``[env.X]`` that are tables."""
    environments = raw.get("env")
    own = environments.items() if isinstance(environments, dict) else ()
    return {env: table for env, table in own if isinstance(table, dict)}


def _of_drivers(raw: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return by environment the tables that drivers read: a table under ``[env.X]`` may be any driver's."""
    known = keys(Env)
    return {
        env: {key: value for key, value in own.items() if key not in known and isinstance(value, dict)}
        for env, own in _environments(raw).items()
    }


def _without_drivers(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the file with nothing in ``[env.X]`` but the keys that we know; what else stands there is told apart."""
    known = keys(Env)
    own = {env: {key: own[key] for key in own if key in known} for env, own in _environments(raw).items()}
    return {**raw, "env": {**raw["env"], **own}} if own else raw


def _unknown_environment_keys(raw: Mapping[str, Any]) -> Iterator[str]:
    known = keys(Env)
    for env, own in _environments(raw).items():
        for key, value in own.items():
            if key not in known and not isinstance(value, dict):
                yield _told(Problem(("env", env, key), value, "there is no such key", (*known, *DRIVERS)))


def _environment_problems(file: File) -> Iterator[str]:
    for env in file.env or ("",):
        yield from map(_told, _host(file, env)[1])
        if env and file.environments is not None and env not in file.environments:
            yield f"[env.{env}]: environments does not name {env}; add it there, or remove the table"


def _host(file: File, env: str) -> tuple[HostLimits | None, list[Problem]]:
    own = file.env[env].host if env in file.env else {}
    return read(HostLimits, _merged(file.host, own), ("env", env, "host") if own else ("host",))


def _told(problem: Problem) -> str:
    place = ".".join(problem.location)
    if problem.value is UNSET:
        return f"{place}: {problem.text}"
    text = problem.text
    if problem.known:
        close = closest(problem.location[-1], problem.known)
        text += f"; did you mean {close}?" if close else f"; known keys are {', '.join(problem.known)}"
    return f"{place} = {_shown(problem.location, problem.value)}: {text}"


def _shown(location: tuple[str, ...], value: object) -> str:
    if any(_SECRET_KEY.search(part) for part in location if part not in _NOT_SECRET) or any(
        _secrets_in(value, location)
    ):
        return "(not shown)"
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _secrets_in(data: object, location: tuple[str, ...]) -> Iterator[str]:
    if isinstance(data, dict):
        for key, value in data.items():
            here = (*location, str(key))
            if location[-1:] == ("service-headers",) and isinstance(value, str):
                if is_secret(str(key)) and value.strip() and not VARIABLE.search(value):
                    yield (
                        f"{'.'.join(here)}: this looks like a secret, and a file is no place for one; "
                        f'set it as an environment variable, and write {key} = "${{NAME}}"'
                    )
            elif isinstance(value, str) and _SECRET_KEY.search(str(key)) and value.strip():
                yield (
                    f"{'.'.join(here)}: this looks like a secret, and a file is no place for one; "
                    "set it as an environment variable and name that under secrets"
                )
            else:
                yield from _secrets_in(value, here)
    elif isinstance(data, list):
        for number, value in enumerate(data):
            yield from _secrets_in(value, (*location, str(number)))
    elif _has_credentials(data):
        yield f"{'.'.join(location)}: a URL in a file must not hold credentials; take them out"


def _has_credentials(value: object) -> bool:
    return isinstance(value, str) and bool(re.search(r"://[^/\s:@]+:[^/\s@]+@", value))
