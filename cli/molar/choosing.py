"""The settings of one call: user configuration, ``molar.toml``, the environment, then what the call says."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from molar_retrieval.errors import SettingsError
from molar_retrieval.workspace.config_files import user_file
from molar_retrieval.workspace.discovery import file_beside

if TYPE_CHECKING:
    from molar_indexes.server.config import ServerConfig
    from molar_retrieval.workspace.settings import MolarSettings

LOCAL = "local"
"""What an index is called to leave a server of the settings aside."""
IndexFallback = Literal["none", "local"]
FILE, _VARIABLES = "molar.toml", "MOLAR_"


def settings_of(
    root: Path,
    file: Path | None = None,
    *,
    trust: bool = False,
    index: str | None = None,
    index_fallback: IndexFallback | None = None,
    **sections: Mapping[str, Any],
) -> "MolarSettings":
    """The settings of one call: of ``file``, or of ``molar.toml`` beside the workspace ``root``, under ``sections``.

    ``trust``: whether code that a model brings may run; nothing but the call says so. ``index`` is the address of a
    server or ``local``. None, also among the values by section and key, changes nothing. Raises :class:`SettingsError`.
    """
    from molar_retrieval.workspace.settings import MolarSettings

    served = {**sections.pop("index", {}), "url": None if index == LOCAL else index, "fallback": index_fallback}
    found = MolarSettings.load(
        root.parent, name=file_beside(root, FILE).name, flags={**sections, "index": served}, file=file
    )
    changed: dict[str, Any] = {"embed": found.embed.trusting()} if trust else {}
    if index == LOCAL:
        changed["index"] = found.index.model_copy(update={"url": None})
    return found.model_copy(update=changed)


def may_be_set(root: Path, file: Path | None = None, section: str = "") -> bool:
    """Whether a file has settings, or a variable is what may be one of some ``section``, such as ``INDEX_``.

    To read settings takes longer than to answer a question.
    """
    named = any(name.startswith(f"{_VARIABLES}{section}") for name in os.environ)
    return file is not None or named or file_beside(root, FILE).exists() or user_file().exists()


def server_of(
    root: Path, file: Path | None = None, index: str | None = None, index_fallback: IndexFallback | None = None
) -> "ServerConfig | None":
    """The server that answers, or None: the workspace does; see :func:`settings_of`.

    Where there are no settings, none are read, which takes half of the time of a query.
    """
    if not may_be_set(root, file, "INDEX_") and index in (None, LOCAL):
        return None
    from molar_indexes.server.config import ServerConfig

    return ServerConfig.of(settings_of(root, file, index=index, index_fallback=index_fallback).index)


def refuse(options: Mapping[str, Any], why: str, remedy: str) -> None:
    """Refuse options of a call that would change nothing."""
    if given := [name for name, value in options.items() if value is not None]:
        raise SettingsError(f"{why}: {', '.join(given)} would change nothing", remedy)
