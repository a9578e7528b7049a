"""The user's own configuration, ``~/.config/molar/config.toml``: the sections of ``molar.toml``, and trusted keys.

It is what may name hosts, files outside of a shop and secrets, so nobody but the user may be able to write it. It is
read on the way of every answer that needs such a file, therefore nothing heavy is imported here.
"""

import os
import stat
from functools import lru_cache
from pathlib import Path
from typing import Any

from molar_retrieval.errors import SettingsError
from molar_retrieval.marks import mark_of

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
    mark = mark_of(file)
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
    from molar_retrieval.toml import read_toml

    try:
        return read_toml(file)
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error}", "make it a readable file") from error
