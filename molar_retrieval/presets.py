"""What settings say where nothing else is given; apart from them, as a query need not import what checks these."""

from collections.abc import Mapping
from typing import Any, Literal

Preset = Literal["instant", "fast", "default", "best"]
PRESETS: dict[Preset, dict[str, Any]] = {
    "instant": {"towers": (), "rerank": False, "horizon": "next"},
    "fast": {"towers": ("collaborative",), "epochs": 7},
    "default": {},
    "best": {"dim": 256, "dropout": 0.3, "epochs": 30, "members": 2},
}
"""What a preset of ``[align]`` sets; a key that is given as well wins."""
EVENT_WEIGHTS: Mapping[str, float] = {"purchase": 1.0, "rating": 1.0, "add_to_cart": 0.3, "click": 0.1, "view": 0.1}
"""Weights of event types where neither the settings nor validation says others."""
