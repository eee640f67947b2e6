"""The JSON Schema of the configuration file, for editors; made from the models that validate it."""

from __future__ import annotations

from typing import Any

from deploy_guard import config
from deploy_guard.drivers.local.config import LocalConfig


def schema() -> dict[str, Any]:
    """Return the schema of ``deploy-guard.toml``."""
    made = config.json_schema()
    definitions = made["$defs"]
    for name, model in (("local", LocalConfig), ("host", config.HostLimits)):
        # Draft 7 is what editors know; of later drafts this uses $defs alone, which is a mere address.
        table = model.model_json_schema(by_alias=True)
        definitions.update(table.pop("$defs", {}))
        definitions[name] = table
    for properties in (made["properties"], definitions["_Env"]["properties"]):
        properties["local"] = {"$ref": "#/$defs/local"}
        properties["host"] = {"$ref": "#/$defs/host"}
    definitions["_Env"]["additionalProperties"] = {"type": "object"}  # the table of any driver
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
        if key not in dropped and not (key == "default" and value is None)
    }
    choices = clean.get("anyOf")
    if not names and isinstance(choices, list):
        left = [choice for choice in choices if choice != {"type": "null"}]
        clean = {**{k: v for k, v in clean.items() if k != "anyOf"}, **(left[0] if len(left) == 1 else {"anyOf": left})}
    return clean
