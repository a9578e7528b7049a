"""In which encoding a text file is written, where it is not UTF-8: that of European or Japanese spreadsheets."""

import codecs
import re
import unicodedata
from pathlib import Path

from molar_retrieval.errors import DataError

_CHUNK = 1 << 22
_SAMPLE = 1 << 23  # bytes around the first one that is not UTF-8 by which encodings are told apart
_ENOUGH = 0.95  # share of the characters beyond ASCII that must be of the scripts of an encoding
_TYPOGRAPHY = set("€‚„…‘’“”•–—™©®°´¨·«»¿¡§£¥±²³µ¼½¾×÷ªº\u00a0")
_SCRIPTS = {
    "euc_jp": ("HIRAGANA", "KATAKANA", "CJK", "FULLWIDTH", "IDEOGRAPHIC"),
    "cp932": ("HIRAGANA", "KATAKANA", "CJK", "FULLWIDTH", "IDEOGRAPHIC", "HALFWIDTH"),
    "cp1252": ("LATIN",),
    "cp1250": ("LATIN",),
    "cp1251": ("CYRILLIC",),
}
"""Encodings that are tried, with the scripts that they are for; the bytes of one are rarely those of one before it."""
_ODD: dict[tuple[str, ...], re.Pattern[str]] = {
    ("LATIN",): re.compile(r"[^\W\d_][¹²³§¿¡¼½¾£¥¤©®±][^\W\d_]|[^\x00-\x7f\W\d_]{5}"),
    ("CYRILLIC",): re.compile(r"[A-Za-z][Ѐ-ӿ]|[Ѐ-ӿ][A-Za-z]"),
}
"""What words hardly have: in Latin a sign within or five letters beyond ASCII in a row, in Cyrillic both alphabets."""

_WITHIN, _APART = re.compile(r"[A-Za-z][^\x00-\x7f](?![^\x00-\x7f])|(?<![^\x00-\x7f])[^\x00-\x7f][A-Za-z]"), 0.7
"""A character beyond ASCII within a word, as an umlaut, and how many must not be where a text has kanji and no kana."""


def encoding_of(path: Path) -> str:
    """The encoding of a text file, as Python calls it; a DataError where it is none of those known."""
    try:
        with path.open("rb") as file:
            if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                return "utf-16"
            file.seek(0)
            decoder = codecs.getincrementaldecoder("utf-8")()
            before = b""
            while chunk := file.read(_CHUNK):
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError:
                    return _guessed(path, before + chunk + file.read(_SAMPLE - _CHUNK))
                before = chunk
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}", "check the file and its permissions") from error
    return "utf-8"


def _guessed(path: Path, sample: bytes) -> str:
    sample = sample[: sample.rfind(b"\n") + 1] or sample
    for encoding, scripts in _SCRIPTS.items():
        try:
            text = sample.decode(encoding)
        except UnicodeDecodeError:
            continue
        if _plausible(text, scripts):
            return encoding
    tried = ", ".join(_SCRIPTS)
    raise DataError(f"{path} is neither UTF-8 nor {tried}", "save it as UTF-8, or as Parquet")


def _plausible(text: str, scripts: tuple[str, ...]) -> bool:
    foreign = [c for c in text if ord(c) > 127]
    fitting = sum(c in _TYPOGRAPHY if not c.isalpha() else _of(c, scripts) for c in foreign)
    if scripts[0] == "HIRAGANA":
        fitting = sum(_of(c, scripts) for c in foreign)
        apart = len(foreign) - len(_WITHIN.findall(text)) >= _APART * len(foreign)
        return fitting >= _ENOUGH * len(foreign) and (apart or any(_of(c, scripts[:2]) for c in foreign))
    odd = len(_ODD[scripts].findall(text))
    return fitting >= _ENOUGH * len(foreign) and odd <= (1 - _ENOUGH) * len(foreign)


def _of(character: str, scripts: tuple[str, ...]) -> bool:
    name = unicodedata.name(character, "")
    return name.startswith(scripts)
