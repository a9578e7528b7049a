"""Files of settings, rules and templates that people write."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from datetime import date, time
from pathlib import Path
from typing import Any

from molar_retrieval import bounds
from molar_retrieval.errors import SettingsError, shown

_DEEPEST = 16


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says; a SettingsError if it is none, or is larger or deeper than any that people write."""
    try:
        with path.open("rb") as file:
            raw = file.read(bounds.TOML + 1)
        if len(raw) > bounds.TOML:
            raise SettingsError(f"{path} is larger than {bounds.TOML >> 20} MiB", "name a TOML file")
        text = raw.decode("utf-8")
    except ValueError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}", "correct the line") from error
    return parse_toml(text, str(path))


def parse_toml(text: str, source: str) -> dict[str, Any]:
    """The same of a text from ``source``."""
    try:
        found = tomllib.loads(text)
        if _depth(found) > _DEEPEST:
            raise RecursionError
    except RecursionError as error:
        raise SettingsError(f"{source} is nested too deeply", f"use at most {_DEEPEST} levels") from error
    except ValueError as error:  # of syntax or the number of digits
        raise SettingsError(f"{source} is not valid TOML: {error}", "correct the line") from error
    return found


def toml_of(name: str, tables: Sequence[Mapping[str, Any]]) -> str:
    """Tables of one name as TOML: what :func:`parse_toml` reads gives them back.

    Values are texts, numbers, truths, days, times and lists of these; a SettingsError names another one.
    """
    lines: list[str] = []
    for table in tables:
        lines += [f"[[{name}]]", *(f"{_key(key)} = {toml_value(key, value)}" for key, value in table.items()), ""]
    text = "\n".join(lines)
    if parse_toml(text, name).get(name, []) != [dict(table) for table in tables]:
        raise SettingsError(f"the tables {name} cannot be written as TOML", "use texts, numbers, truths and lists")
    return text


def with_keys(text: str, tables: Mapping[str, Mapping[str, Any]], source: str) -> str:
    """A text of ``source`` in which keys of some tables have other values; comments and all other lines stay."""
    wanted = parse_toml(text, source)
    import tomlkit

    document = tomlkit.parse(text)
    for table, pairs in tables.items():
        wanted[table] = {**wanted.get(table, {}), **pairs}
        document.setdefault(table, tomlkit.table()).update(pairs)
    changed = tomlkit.dumps(document)
    if parse_toml(changed, source) != wanted:
        raise SettingsError(f"{source} is written in a way that cannot be changed", "write the values into it by hand")
    return changed


def _key(key: str) -> str:
    return key if key.replace("_", "").isalnum() and key.isascii() else toml_value(key, key)


def toml_value(key: str, value: Any) -> str:
    """A text, number, truth, day, time or list of these as TOML; a SettingsError names the ``key`` of anything else."""
    if isinstance(value, list):
        return f"[{', '.join(toml_value(key, one) for one in value)}]"
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, str | bool | int | float):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    raise SettingsError(f"{key} holds {shown(value)}", "give a text, a number, true or false, or a list of these")


def _depth(value: Any) -> int:
    """Levels of tables and lists; at most one more than are allowed."""
    level, depth = [value], 0
    while level and depth <= _DEEPEST:
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level, depth = [one for several in inner for one in several], depth + 1
    return depth
