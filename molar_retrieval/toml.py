"""Files of settings, rules and templates that people write."""

import tomllib
from pathlib import Path
from typing import Any

from molar_retrieval import bounds
from molar_retrieval.errors import SettingsError

_DEEPEST = 16


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says; a SettingsError if it is none, or is larger or deeper than any that people write."""
    try:
        with path.open("rb") as file:
            raw = file.read(bounds.TOML + 1)
        if len(raw) > bounds.TOML:
            raise SettingsError(f"{path} is larger than {bounds.TOML >> 20} MiB", "name a TOML file")
        found = tomllib.loads(raw.decode("utf-8"))
        if _depth(found) > _DEEPEST:
            raise RecursionError
    except RecursionError as error:
        raise SettingsError(f"{path} is nested too deeply", f"use at most {_DEEPEST} levels") from error
    except ValueError as error:  # of syntax, encoding or the number of digits
        raise SettingsError(f"{path} is not valid TOML: {error}", "correct the line") from error
    return found


def _depth(value: Any) -> int:
    """Levels of tables and lists; at most one more than are allowed."""
    level, depth = [value], 0
    while level and depth <= _DEEPEST:
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level, depth = [one for several in inner for one in several], depth + 1
    return depth
