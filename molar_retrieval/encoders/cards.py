"""What a model's read-me file says in its front matter: licence and languages."""

import re
from pathlib import Path

_FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)
UNKNOWN = "unknown"


def licence(folder: Path) -> str:
    """The licence that the card names, ``unknown`` where it names none."""
    values = _values(_front_matter(folder), "license")
    return values[0] if values else UNKNOWN


def languages(folder: Path) -> tuple[str, ...]:
    """The languages that the card names (ISO 639; ``mul``: many); empty where it names none."""
    values = _values(_front_matter(folder), "language")
    return tuple("mul" if value in ("multilingual", "mul") else value for value in values)


def _front_matter(folder: Path) -> str:
    try:
        text = (folder / "README.md").read_text("utf-8", "replace")
    except OSError:
        return ""
    found = _FRONT.match(text)
    return found.group(1) if found else ""


def _values(front: str, key: str) -> list[str]:
    """A scalar, ``[a, b]`` or a list of ``- a`` lines under ``key`` at the top level."""
    lines = front.splitlines()
    for number, line in enumerate(lines):
        if not line.startswith(f"{key}:"):
            continue
        inline = line.partition(":")[2].strip()
        if inline:
            return [part for part in (_bare(p) for p in inline.strip("[]").split(",")) if part]
        values = []
        for follower in lines[number + 1 :]:
            if not follower.lstrip().startswith("- "):
                break
            values.append(_bare(follower.lstrip()[2:]))
        return values
    return []


def _bare(value: str) -> str:
    return value.strip().strip("'\"").strip().lower()
