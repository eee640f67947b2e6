"""The JSON Schema of the configuration file, for editors; made from the models that validate it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deploy_guard.config import Env, File, HostLimits
from deploy_guard.drivers.compose.config import ComposeConfig
from deploy_guard.drivers.kubernetes.config import KubernetesConfig
from deploy_guard.drivers.local.config import LocalConfig

_DRIVERS = {"local": LocalConfig, "compose": ComposeConfig, "kubernetes": KubernetesConfig}


def schema() -> dict[str, Any]:
    """Return the schema of ``deploy-guard.toml``."""
    from msgspec.json import schema_components

    # Draft 7 is what editors know; of later drafts this uses $defs alone, which is a mere address.
    _, definitions = schema_components(
        (File, HostLimits, *_DRIVERS.values()),
        schema_hook=lambda kind: {"type": "string"} if kind is Path else {},
        ref_template="#/$defs/{name}",
    )
    made = definitions.pop(File.__name__)
    for table in (made, definitions[Env.__name__]):
        for name, model in _DRIVERS.items():
            table["properties"][name] = {"$ref": f"#/$defs/{model.__name__}"}
        table["properties"]["host"] = {"$ref": "#/$defs/HostLimits"}
    definitions[Env.__name__]["additionalProperties"] = {"type": "object"}  # the table of any driver
    made["$defs"] = definitions
    clean: dict[str, Any] = _clean(made)
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "deploy-guard.toml", **clean}


def _clean(node: Any, *, names: bool = False) -> Any:
    """Drop what a TOML file can't hold or need not: nulls, and keys that may stand in another table or a base file.

    :param names: the keys of this node are names of the file's own, not words of the schema.
    """
    if isinstance(node, list):
        return [_clean(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    dropped = () if names else ("title", "required", "description")
    clean = {
        key: _clean(value, names=not names and key in ("properties", "$defs"))
        for key, value in node.items()
        if key not in dropped and not (key == "default" and value in (None, {}))
    }
    choices = clean.get("anyOf")
    if not names and isinstance(choices, list):  # they say all: a type beside them is what is made of any of them
        left = [choice for choice in choices if choice != {"type": "null"}]
        default = {"default": clean["default"]} if "default" in clean else {}
        return {**(left[0] if len(left) == 1 else {"anyOf": left}), **default}
    return clean
