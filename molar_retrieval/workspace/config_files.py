"""Files of settings, rules and templates that people write; the user configuration; defaults beside the settings.

A query needs these, and not what checks settings, so nothing heavy is imported here. The user's own configuration,
``~/.config/molar/config.toml``, has the sections of ``molar.toml``, and trusted keys: it may name hosts, files outside
of a shop and secrets, so nobody but the user may be able to write it.
"""

import os
import stat
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from molar_retrieval import limits
from molar_retrieval.errors import SettingsError
from molar_retrieval.workspace.files import file_stamp

Preset = Literal["instant", "fast", "default", "best"]
ObjectiveName = Literal["next_item", "future_items"]
"""The next item of a user, or all that the user takes within months."""
_COUNT_MODELS = ("sequential", "ease", "item_knn", "content_knn", "popularity", "repeat_consumption")
PRESETS: dict[Preset, dict[str, Any]] = {
    "instant": {"models": _COUNT_MODELS, "reranker": False, "objectives": ("next_item",)},
    "fast": {"models": ("id_tower", *_COUNT_MODELS), "epochs": 7},
    "default": {},
    "best": {"embedding_dim": 256, "dropout": 0.3, "epochs": 30, "members": 2},
}
"""What a preset of ``[align]`` sets; a key that is given as well wins."""
EVENT_WEIGHTS: Mapping[str, float] = {"purchase": 1.0, "rating": 1.0, "add_to_cart": 0.3, "click": 0.1, "view": 0.1}
"""Weights of event types where neither the settings nor validation says others."""


_DEEPEST = 16


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says; a SettingsError if it is none, or is larger or deeper than any that people write."""
    try:
        with path.open("rb") as file:
            raw = file.read(limits.TOML + 1)
        if len(raw) > limits.TOML:
            raise SettingsError(f"{path} is larger than {limits.TOML >> 20} MiB", "name a TOML file")
        text = raw.decode("utf-8")
    except ValueError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}", "correct the line") from error
    return parse_toml(text, str(path))


def parse_toml(text: str, source: str) -> dict[str, Any]:
    """The same of a text from ``source``."""
    import tomllib

    try:
        found = tomllib.loads(text)
        if _is_deep(found, _DEEPEST - 1):
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
    import tomlkit
    from tomlkit.exceptions import ConvertError

    remedy = "use texts, numbers, truths and lists"
    try:
        text = tomlkit.dumps({name: list(tables)}) if tables else ""
    except ConvertError as error:
        raise SettingsError(f"the tables {name} cannot be written as TOML: {error}", remedy) from error
    if parse_toml(text, name).get(name, []) != [dict(table) for table in tables]:
        raise SettingsError(f"the tables {name} cannot be written as TOML", remedy)
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


def toml_value(value: Any) -> str:
    """A text, number, truth, day, time or list of these as TOML."""
    import tomlkit

    return str(tomlkit.item(value).as_string())


def _is_deep(value: Any, left: int = _DEEPEST) -> bool:
    """Whether tables and lists are nested deeper than so many levels."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return left < 0 or any(_is_deep(one, left - 1) for one in inner if isinstance(one, dict | list))


_NAME = "config.toml"
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def user_file() -> Path:
    """Where the user configuration lies, or would lie: below ``XDG_CONFIG_HOME`` where that is set."""
    return _user_folder(os.environ.get("XDG_CONFIG_HOME"), os.environ.get("HOME")) / _NAME


def user_configuration() -> dict[str, Any]:
    """The user configuration, by section; empty where there is none.

    Raises:
        SettingsError: If it is not TOML, or somebody else owns it or may write it.
    """
    file = user_file()
    mark = file_stamp(file)
    if mark is None:
        return {}
    _require_private(file)
    return _read(file, mark)


def trusted_file(section: str, key: str) -> Path | None:
    """The file that a trusted key names in the environment, or else in the user configuration; None: neither does."""
    found = os.environ.get(variable_of(section, key))
    if not found:
        table = user_configuration().get(section)
        found = table.get(key) if isinstance(table, dict) else None
    return Path(found).expanduser() if isinstance(found, str) and found else None


def variable_of(section: str, key: str) -> str:
    """The environment variable of a setting."""
    return f"MOLAR_{section.upper()}_{key.upper()}"


def how_to_name(section: str, key: str) -> str:
    """How to give a trusted key, for the remedy of an error."""
    return f"name it with {variable_of(section, key)}, or with [{section}] {key} in {user_file()}"


@lru_cache(maxsize=8)
def _user_folder(_xdg: str | None, _home: str | None) -> Path:
    import platformdirs

    return Path(platformdirs.user_config_dir("molar", appauthor=False))


def _require_private(file: Path) -> None:
    """Raise a SettingsError where another user owns the file or its folder, or may write there."""
    if os.name != "posix":
        return
    for path in (file, file.parent):
        found = path.stat()
        if found.st_uid != os.geteuid():
            raise SettingsError(f"{path} belongs to another user, so it cannot configure molar", f"chown it: {path}")
        if found.st_mode & _OTHERS:
            raise SettingsError(f"others may write {path}, so it cannot configure molar", f"chmod go-w {path}")


@lru_cache(maxsize=8)
def _read(file: Path, _mark: object) -> dict[str, Any]:
    try:
        return read_toml(file)
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error}", "make it a readable file") from error
