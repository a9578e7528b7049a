"""Which server a command asks: what `--index` says, else the settings."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from molar_cli.session import Session

if TYPE_CHECKING:
    from molar_indexes.server.place import Server
    from molar_retrieval.config import MolarSettings

LOCAL = "local"
"""What `--index` says to leave a server of the settings aside."""
_VARIABLE = "MOLAR_INDEX_URL"
_FILE = "molar.toml"
Fallback = Literal["none", "local"]


def settings_of(
    run: Session,
    url: str | None,
    fallback: Fallback | None = None,
    file: Path | None = None,
    *,
    trust: bool = False,
    **flags: Mapping[str, Any],
) -> "MolarSettings":
    """The settings with what a command's options say of the server.

    Raises:
        SettingsError: If a setting is wrong.
    """
    index = {**flags.pop("index", {}), "url": None if url == LOCAL else url, "fallback": fallback}
    settings = run.settings(file, trust=trust, index=index, **flags)
    if url != LOCAL:
        return settings
    return settings.model_copy(update={"index": settings.index.model_copy(update={"url": None})})


def server_of(
    run: Session, url: str | None, fallback: Fallback | None = None, file: Path | None = None
) -> "Server | None":
    """The server that answers, or None; where there is none, no settings are read, as a query heeds no others.

    Raises:
        SettingsError: If a setting is wrong.
    """
    if url == LOCAL or (url is None and not _may_name_one(file or run.root.parent / _FILE)):
        return None
    from molar_indexes.server.place import Server

    return Server.of(settings_of(run, url, fallback, file).index)


def _may_name_one(file: Path) -> bool:
    if os.environ.get(_VARIABLE):
        return True
    try:
        return b"url" in file.read_bytes()
    except OSError:
        return False
