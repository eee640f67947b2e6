"""The environment variables that a release needs."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from deploy_guard.config import EnvironmentConfig
from deploy_guard.headers import variables_in


def problems(config: EnvironmentConfig, environ: Mapping[str, str]) -> list[str]:
    """Return everything that is wrong with the variables, by name and never by value; empty when all is well."""

    def missing(name: str) -> bool:
        return not environ.get(name, "").strip()

    found = []
    said = environ.get("ENV", "").strip()
    if said and said != config.env:
        found.append(f"ENV names another environment than --deploy-env={config.env}")
    found += [f"{name} is not set, or blank" for name in config.required_variables if missing(name)]
    found += [
        f"none of {', '.join(group)} is set" if len(group) > 1 else f"{group[0]} is not set, or blank"
        for group in config.secret_groups
        if all(missing(name) for name in group)
    ]
    used = [(header, name) for header, text in config.service_headers.items() for name in variables_in(text)]
    found += [
        f"{name} is not set, or blank, and service-headers.{header} needs it" for header, name in used if missing(name)
    ]
    url = environ.get("SERVICE_URL", "").strip()
    if url:
        found += _url_problems(url)
    return found


def names_set(config: EnvironmentConfig, environ: Mapping[str, str]) -> list[str]:
    """Return the names of the variables that are asked for, and set."""
    names = ["ENV", *config.required_variables, *(name for group in config.secret_groups for name in group)]
    return [name for name in dict.fromkeys(names) if environ.get(name, "").strip()]


def _url_problems(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return ["SERVICE_URL is not a URL"]
    if parts.scheme not in ("http", "https") or not host:
        return ["SERVICE_URL is not an http:// or https:// URL"]
    if parts.username or parts.password:
        return ["SERVICE_URL holds credentials: take them out, and name them under secrets"]
    return []
