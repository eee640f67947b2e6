"""The configuration: one file, validated whole before anything runs; each error names file, key, value and fix."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
)

from deploy_guard import configfile
from deploy_guard.configfile import find
from deploy_guard.duration import DURATION_SCHEMA, seconds_of
from deploy_guard.errors import ConfigurationError
from deploy_guard.headers import VARIABLE, is_secret, variables_in
from deploy_guard.hostconfig import Days, HostLimits, Limits, Model, kebab
from deploy_guard.probes.versions import PLACE, Versions, is_tag_name
from deploy_guard.roots import Root, locate, packaged

__all__ = ["Configuration", "EnvironmentConfig", "HostLimits", "Limits", "Releases", "find", "gate_roots", "load"]

DEFAULT_ENVIRONMENTS = ("dev", "stage", "prod")
DRIVERS = ("local", "compose", "kubernetes")
UNGUARDED = ("dev",)
"""Environments where the release guard is off unless the configuration says otherwise."""
_SECRET_KEY = re.compile(r"(password|passwd|secret|token|api[-_]?key|private[-_]?key|credential)", re.IGNORECASE)
_NOT_SECRET = ("secrets",)


def _group(value: object) -> object:
    return [value] if isinstance(value, str) else value


Duration = Annotated[float, BeforeValidator(seconds_of), WithJsonSchema(DURATION_SCHEMA)]
Names = Annotated[tuple[str, ...], Field(default=())]
_Names = {"type": "array", "items": {"type": "string"}, "minItems": 1}
Group = Annotated[
    tuple[str, ...],
    BeforeValidator(_group),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"type": "string"}, _Names]}),
]


@dataclass(frozen=True)
class Releases:
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


class _Shared(Model):
    required_variables: tuple[str, ...] | None = None
    secrets: tuple[Group, ...] | None = None
    severities: dict[str, Literal["critical", "recoverable", "warn"]] = Field(default_factory=dict)
    service_url: str | None = None
    version_url: str | None = None
    version_path: str | None = None
    version_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] | None = None
    version_samples: Annotated[int, Field(ge=1, le=20, strict=True)] | None = None
    health_url: str | None = None
    service_headers: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")], str] = Field(default_factory=dict)
    ca_bundle: str | None = None
    certificate_days: Days | None = None
    timeout: Duration | None = None
    gate_timeout: Duration | None = None
    rollback: Literal["auto", "off"] | None = None
    ledger: str | None = None
    release_guard: bool | None = None
    tag: str | None = None
    tag_remote: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._/-]*$")] | None = None
    version_pattern: str | None = None
    pre_releases: bool | None = None
    allow_downgrade: bool | None = None
    paths: tuple[str, ...] | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    host: dict[str, Any] = Field(default_factory=dict)

    @field_validator("service_url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        if value is not None and (urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname):
            raise ValueError("write a URL that begins with http:// or https://")
        return value

    @field_validator("ledger")
    @classmethod
    def _known_ledger(cls, value: str | None) -> str | None:
        if value is not None and value != "target" and not value.startswith(("sqlite:///", "postgresql://")):
            raise ValueError('use sqlite:///FILE, postgresql://… or "target"')
        return value

    @field_validator("tag")
    @classmethod
    def _names_a_tag(cls, value: str | None) -> str | None:
        if value is not None and value.count(PLACE) != 1:
            raise ValueError('write the place of the version into it, once, as in "shop/{version}"')
        if value is not None and not is_tag_name(value.replace(PLACE, "v1.2.3")):
            raise ValueError("git accepts no tag of that name")
        return value

    @field_validator("version_pattern")
    @classmethod
    def _regular(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"this is no regular expression: {error}") from error
        return value

    @field_validator("paths")
    @classmethod
    def _relative(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and any(not path.strip() or "\0" in path or Path(path).is_absolute() for path in value):
            raise ValueError("write paths that start at the configuration file's folder")
        return value


class _Env(_Shared):
    model_config = ConfigDict(extra="allow", frozen=True, alias_generator=kebab, populate_by_name=False)
    driver: str | None = None


class _File(_Shared):
    name: Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = None
    extends: str | None = None
    gates: Annotated[tuple[str, ...], Field(min_length=1)] = ("gates",)
    environments: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    variables: tuple[str, ...] = ("VERSION", "COMMIT")
    driver: str | None = None
    env: dict[str, _Env] = Field(default_factory=dict)
    local: dict[str, Any] = Field(default_factory=dict)
    compose: dict[str, Any] = Field(default_factory=dict)
    kubernetes: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class EnvironmentConfig:
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


@dataclass(frozen=True)
class Configuration:
    """A whole configuration file, valid."""

    _file: _File
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
        file, own = self._file, self._file.env.get(env, _Env())

        def pick(name: str, default: Any) -> Any:
            for source in (own, file):
                value = getattr(source, name)
                if value is not None:
                    return value
            return default

        driver = own.driver or file.driver
        general = getattr(file, driver, {}) if driver in DRIVERS else {}
        specific = (own.model_extra or {}).get(driver, {}) if driver else {}
        host = HostLimits.model_validate(_merged(file.host, own.host))
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
            gates=file.gates if "gates" in file.model_fields_set or (self.directory / "gates").exists() else (),
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
        file = _validated(_merged(raw, override), [], f"the command line does not go with {path}")
    return Configuration(file, directory, path)


def _validated(raw: Mapping[str, Any], problems: list[str], what: str) -> _File:
    problems += _unknown_environment_keys(raw)
    file: _File | None = None
    try:
        file = _File.model_validate(raw)
    except ValidationError as error:
        problems += _explain(error, ())
    if file is not None:
        problems += _environment_problems(file)
    if problems or file is None:
        raise ConfigurationError(f"{what}:\n  " + "\n  ".join(dict.fromkeys(problems)))
    return file


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the file as pydantic makes it; ``deploy_guard.cli.schema`` makes it fit for editors."""
    return _File.model_json_schema(by_alias=True)


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


def _unknown_environment_keys(raw: Mapping[str, Any]) -> Iterator[str]:
    """A table under ``[env.X]`` may be any driver's; anything else must be a key that we know."""
    environments = raw.get("env")
    known = _aliases(_Env)
    for env, own in environments.items() if isinstance(environments, dict) else ():
        for key, value in own.items() if isinstance(own, dict) else ():
            if key not in known and not isinstance(value, dict):
                yield _unknown(("env", env, key), value, [*known, *DRIVERS])


def _environment_problems(file: _File) -> Iterator[str]:
    for env, own in file.env.items():
        try:
            HostLimits.model_validate(_merged(file.host, own.host))
        except ValidationError as error:
            yield from _explain(error, ("env", env, "host") if own.host else ("host",))
        if file.environments is not None and env not in file.environments:
            yield f"[env.{env}]: environments does not name {env}; add it there, or remove the table"
    if not file.env and file.host:
        try:
            HostLimits.model_validate(file.host)
        except ValidationError as error:
            yield from _explain(error, ("host",))


def _explain(error: ValidationError, before: tuple[str, ...]) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        location = (*before, *(str(part) for part in problem["loc"]))
        if problem["type"] == "extra_forbidden":
            model = _model_at(location[:-1])
            yield _unknown(location, problem["input"], _aliases(model))
        else:
            message = problem["msg"].removeprefix("Value error, ")
            yield f"{'.'.join(location)} = {_shown(location, problem['input'])}: {message}"


def _model_at(location: tuple[str, ...]) -> type[BaseModel]:
    """Return the table that a key stands in; the whole file's when none is found."""
    model: type[BaseModel] = _File
    if location[:1] == ("env",):
        model, location = _Env, location[2:]
    if location[:1] == ("host",):
        model, location = HostLimits, location[1:]
    for part in location:
        field = next((f for n, f in model.model_fields.items() if part in (n, f.alias)), None)
        kinds = (field.annotation, *get_args(field.annotation)) if field is not None else ()
        model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), model)
    return model


def _unknown(location: tuple[str, ...], value: object, known: list[str]) -> str:
    close = difflib.get_close_matches(location[-1], known, n=1)
    fix = f"did you mean {close[0]}?" if close else f"known keys are {', '.join(known)}"
    return f"{'.'.join(location)} = {_shown(location, value)}: there is no such key; {fix}"


def _aliases(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _shown(location: tuple[str, ...], value: object) -> str:
    if any(_SECRET_KEY.search(part) for part in location if part not in _NOT_SECRET) or _has_credentials(value):
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
