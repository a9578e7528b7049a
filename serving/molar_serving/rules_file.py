"""The file of rules beside a workspace, which may be replaced; former versions stay in ``WORKSPACE/serving/rules/``.

Who wrote which text is in ``authors.json`` there, by what :func:`etag_of` says of the text; of what somebody wrote
into the file by hand nothing is.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from molar_indexes.recommender import RULES_FILE
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.discovery import file_beside
from molar_retrieval.workspace.files import write_atomically

_FOLDER = "serving/rules"
_AUTHORS, _NAME = "authors.json", "%Y%m%dT%H%M%S.%fZ"
_KEPT = 100  # former versions


@dataclass(frozen=True)
class RulesVersion:
    """A text of the rules as it was written.

    Attributes:
        name: Of a former version; None: the present one.
        text: What it says.
        author: The name of the key by which it was written; None: nobody knows, as of what was written by hand.
        at: When it was, in ISO 8601; None likewise.
        replaced: When another one came instead; None: it is the present one.
    """

    name: str | None
    text: str
    author: str | None
    at: str | None
    replaced: str | None


class RulesFile:
    """The rules of a workspace as text; processes take turns at replacing them."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._folder = workspace, workspace.root / _FOLDER
        self.path = file_beside(workspace.root, RULES_FILE)

    @property
    def text(self) -> str:
        """What the file says; nothing where there is none."""
        try:
            return self.path.read_bytes().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def versions(self) -> list[str]:
        """Names of former versions, the newest first."""
        return sorted((path.stem for path in self._folder.glob("*.toml")), reverse=True)

    def version(self, name: str) -> str | None:
        """The text of a former version; None where there is none of this name."""
        if name not in self.versions():
            return None
        return (self._folder / f"{name}.toml").read_bytes().decode("utf-8", "replace")

    def with_etag(self, etag: str) -> str | None:
        """The rules of now or a former version, by the etag of the text; None where it is not kept."""
        texts = (self.text, *(self.version(name) or "" for name in self.versions() if name.endswith(etag[:8])))
        return next((text for text in texts if etag_of(text) == etag), None)

    def history(self) -> list[RulesVersion]:
        """The present text and the former ones, the newest first."""
        authors = self._authors()
        found = [self._known(None, self.text, None, authors)]
        for name in self.versions():
            with suppress(FileNotFoundError):  # removed meanwhile, as one of too many
                text = (self._folder / f"{name}.toml").read_bytes().decode("utf-8", "replace")
                found.append(self._known(name, text, _written_at(name), authors))
        return found

    @staticmethod
    def _known(name: str | None, text: str, replaced: str | None, authors: list[Mapping[str, Any]]) -> RulesVersion:
        etag = etag_of(text)
        own = [one for one in authors if one["etag"] == etag and (replaced is None or one["at"] <= replaced)]
        author, at = (own[-1]["author"], own[-1]["at"]) if own else (None, None)
        return RulesVersion(name, text, author, at, replaced)

    def _authors(self) -> list[Mapping[str, Any]]:
        """Who wrote what when, the latest last."""
        try:
            found: list[Mapping[str, Any]] = json.loads((self._folder / _AUTHORS).read_bytes())
        except (FileNotFoundError, ValueError):
            return []
        return found

    def replace(self, text: str, allowed: Callable[[str], None], author: str) -> tuple[str, str | None] | None:
        """Write another text, once ``allowed`` was called with the present one and raised nothing.

        A DataError where another process is about to. Returns the former text with the name of its version, which is
        None where there was nothing; None where nothing has changed.
        """
        with self._workspace.lock(_FOLDER, "changing the rules of"):
            former, now = self.text, datetime.now(UTC)
            allowed(former)
            if text == former:
                return None
            name = None
            if former:
                name = f"{now:{_NAME}}-{etag_of(former)[:8]}"
                write_atomically(self._folder / f"{name}.toml", former)
            entry = {"etag": etag_of(text), "author": author, "at": _iso(now)}
            write_atomically(self._folder / _AUTHORS, json.dumps([*self._authors()[-_KEPT:], entry]))
            write_atomically(self.path, text)
            for old in self.versions()[_KEPT:]:
                with suppress(FileNotFoundError):
                    (self._folder / f"{old}.toml").unlink()
            return former, name


def _written_at(name: str) -> str:
    return _iso(datetime.strptime(name.partition("-")[0], _NAME).replace(tzinfo=UTC))


def _iso(when: datetime) -> str:
    return when.isoformat(timespec="milliseconds")


def etag_of(text: str) -> str:
    """What changes with a text."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
