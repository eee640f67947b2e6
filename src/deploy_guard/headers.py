"""HTTP headers from the configuration: secrets stand in them as ``${NAME}`` only."""

from __future__ import annotations

import re
from collections.abc import Mapping

from deploy_guard.errors import ConfigurationError

VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)\}")
"""``${NAME}``: an environment variable."""
_SECRET = re.compile(r"auth|cookie|session|token|secret|passw|credential|key|signature", re.IGNORECASE)


def is_secret(name: str) -> bool:
    """True for a header that holds credentials by its name, such as ``Authorization``, ``Cookie``, ``X-Api-Key``."""
    return bool(_SECRET.search(name))


def variables_in(template: str) -> tuple[str, ...]:
    """Return the names of the variables in a value."""
    return tuple(VARIABLE.findall(template))


def filled(templates: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the headers with their variables' values.

    :raises ConfigurationError: for a variable that is not set, or that holds what a header can't; never with its value.
    """
    headers = {}
    for name, template in templates.items():
        for variable in variables_in(template):
            value = environ.get(variable, "")
            if not value.strip():
                raise ConfigurationError(
                    f"service-headers.{name} needs the environment variable {variable}, which is not set, or blank",
                    hint=f"set {variable}",
                )
            if value != value.strip() or not (value.isascii() and value.isprintable()):
                raise ConfigurationError(
                    f"service-headers.{name}: the environment variable {variable} holds a line break, spaces at an end "
                    "or other characters that no header can have",
                    hint=f"set {variable} without them",
                )
        headers[name] = VARIABLE.sub(lambda match: environ[match[1]], template)
    return headers
