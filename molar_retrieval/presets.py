"""How long an alignment may take, by name; apart from the settings, as a query need not import what checks these."""

from typing import Any, Literal

Preset = Literal["instant", "fast", "default", "best"]
PRESETS: dict[Preset, dict[str, Any]] = {
    "instant": {"towers": (), "rerank": False, "horizon": "next"},
    "fast": {"towers": ("collaborative",), "epochs": 7},
    "default": {},
    "best": {"dim": 256, "dropout": 0.3, "epochs": 30, "members": 2},
}
"""What a preset sets; a key that is given as well wins."""
