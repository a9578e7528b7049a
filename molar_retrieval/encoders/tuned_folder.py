"""The folder that `molar finetune` writes: nothing else is overwritten, and it appears whole."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molar_retrieval.encoders.checkpoint import FUSED
from molar_retrieval.errors import DataError

CONFIG, CARD, ACCOUNT = "config.json", "README.md", "molar.json"
"""The account says how a language model was trained; a fusion head's is part of its configuration."""


def check_target(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier fine-tuned encoder by a DataError."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())) or (folder / ACCOUNT).is_file():
        return
    try:
        if json.loads((folder / CONFIG).read_text("utf-8")).get("model_type") == FUSED:
            return
    except (OSError, ValueError, AttributeError):
        pass
    raise DataError(f"{folder} holds something else", "name a new folder with --output")


def partial(folder: Path) -> Path:
    """An empty folder beside ``folder`` to write into, after :func:`check_target`."""
    check_target(folder)
    made = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    return made


def replace(folder: Path, made: Path) -> None:
    """Put a complete folder in its place; the one before stays until then."""
    former = folder.with_name(f".{folder.name}.former")
    shutil.rmtree(former, ignore_errors=True)
    if folder.exists():
        folder.rename(former)
    made.rename(folder)
    shutil.rmtree(former, ignore_errors=True)


def write_account(folder: Path, account: Mapping[str, Any]) -> None:
    """Keep how a language model was trained."""
    (folder / ACCOUNT).write_text(json.dumps(dict(account), indent=1), "utf-8")


def read_account(folder: Path) -> dict[str, Any]:
    """What :func:`write_account` kept; empty where there is none."""
    try:
        found = json.loads((folder / ACCOUNT).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
