"""Recipes, field by field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def flatten(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested JSON objects as one, with dotted keys.

    Example:
        >>> flatten({"seed": 0, "loss": {"name": "two-stage", "penalty": 1.5}})
        {'seed': 0, 'loss.name': 'two-stage', 'loss.penalty': 1.5}
    """
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def differences(trees: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Fields that are not the same everywhere, with their values; None where a field is missing.

    Example:
        >>> differences([{"seed": 0, "loss": {"name": "pc"}}, {"seed": 0, "loss": {"name": "gce"}}])
        {'loss.name': ['pc', 'gce']}
    """
    flat = [flatten(tree) for tree in trees]
    parts = list(dict.fromkeys(part for tree in trees for part in tree))
    fields = dict.fromkeys(key for one in flat for key in one)
    ordered = sorted(fields, key=lambda key: parts.index(key.partition(".")[0]))
    values = {key: [one.get(key) for one in flat] for key in ordered}
    return {key: found for key, found in values.items() if any(v != found[0] for v in found)}
