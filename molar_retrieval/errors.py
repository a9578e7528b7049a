"""What nobody is to read: keys and tokens of the environment, logins and queries in addresses.

Everything that an error, a note, a traceback or a log says goes through :func:`redacted`. Results do not: they are the
shop's data, and an id must stay what it is.
"""

import os
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, ClassVar
from urllib.parse import quote

SECRETS = ("QDRANT_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")  # variables of the environment that hold one
HIDDEN = "…"
_ESCAPE = r"\\*"  # between the characters of a secret, where it was quoted, however often
_LOGIN = re.compile(r"(?<=://)[^/\s'\"]*(?=@)")
_QUERY = re.compile(r"(\b\w{1,32}://[^\s?#'\"]+[?#])[^\s'\"]+")
_TOKEN = re.compile(
    r"\b(?:hf_|sk-|ghp_|github_pat_|glpat-|xox[abp]-|AKIA|eyJ)[\w.-]{8,}|\bmolar_[A-Za-z0-9-]+_[\w-]{43}"
)


def redacted(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """A text without secrets, in whatever way an error or a server writes them down."""
    for name in SECRETS:
        if secret := environ.get(name, "").strip():
            for form in _forms(secret):
                text = re.sub(_ESCAPE.join(map(re.escape, form)), HIDDEN, text)
    text = _QUERY.sub(rf"\1{HIDDEN}", _LOGIN.sub(HIDDEN, text))
    return _TOKEN.sub(HIDDEN, text)


def _forms(secret: str) -> set[str]:
    """A secret as it is, and as Python, an address or a wrong decoding would show it."""
    encoded = secret.encode("utf-8", "surrogateescape")
    wrong = encoded.decode("latin-1")
    return {secret, ascii(secret)[1:-1], quote(encoded, safe=""), repr(encoded)[2:-1], wrong, ascii(wrong)[1:-1]}


_LONGEST = 2_000  # characters of a message, however long what it tells of is
_QUOTED = 80  # characters of a value from outside that a message repeats
_COMPARED = 64  # characters of a mistaken word that are compared with known ones


class MolarError(Exception):
    """Base of all errors that are meant for people; a traceback shows the remedy below the message.

    Args:
        message: What is wrong with what (file, row, value).
        hint: What to do about it, by commands.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(_cut(message, _LONGEST))
        self.message = _cut(message, _LONGEST)
        self.hint = _cut(hint, _LONGEST)
        if self.hint:
            self.add_note(f"What to do: {self.hint}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels between processes whatever the arguments of a subclass are."""
        return type(self).__new__, (type(self), *self.args), self.__dict__

    def _render_traceback_(self) -> list[str]:
        """What IPython shows of it in a notebook: a traceback says nothing to the person that it is meant for."""
        return [f"{type(self).__name__}: {self}", *getattr(self, "__notes__", [])]


class DataError(MolarError):
    """The data are unusable."""


class RequestError(MolarError):
    """The request cannot be answered: an unknown user, an empty session, k = 0."""


class ModelError(MolarError):
    """A model of the user's own fails, or returns something else than scores."""


class SettingsError(MolarError):
    """A setting or an option is wrong."""

    exit_code = 2


class MissingArtefactError(MolarError):
    """Something has to be computed first; the hint names the command."""

    exit_code = 3


class StaleArtefactError(MolarError):
    """An artefact was made from other inputs than the present ones; the hint names the command."""

    exit_code = 3


class DiskError(DataError):
    """A folder has no room, or cannot be written or read by this user."""


class FullDiskError(DiskError):
    """There is no room: on the disk, in a quota, or for a file so large."""


class BackendError(MolarError):
    """A database or a model is not available."""

    exit_code = 4


def nearest(word: str, known: Iterable[str], n: int = 3) -> list[str]:
    """The ``n`` known words that look most like ``word``, best first."""
    return get_close_matches(word[:_COMPARED], list(known), n=n, cutoff=0.4)


def suggestion(word: str, known: Iterable[str], otherwise: str) -> str:
    """The remedy for a word that is not known: the one that looks most like it, or what is said where none does."""
    close = nearest(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else otherwise


def shown(value: object) -> str:
    """A value from outside as a message quotes it: of a text the first 80 characters, of an object its type."""
    if isinstance(value, str):
        return repr(value[:_QUOTED]) + ("…" if len(value) > _QUOTED else "")
    if isinstance(value, int) and value.bit_length() > _QUOTED:
        return f"an integer of {value.bit_length():,} bits"
    return repr(value) if value is None or isinstance(value, int | float) else f"a value of type {type(value).__name__}"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
