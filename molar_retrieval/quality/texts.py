"""Titles and descriptions that say nothing, say it badly, or say the same as all others."""

import html
import re
from array import array
from collections.abc import Iterable, Iterator

import numpy as np
from ftfy.badness import BADNESS_RE

from molar_retrieval.data.languages import language_of, languages_of
from molar_retrieval.quality.findings import Finding
from molar_retrieval.quality.items import LOOKED_AT, Items, ItemTexts, equal_groups, text_hash

SHORT_TITLE = 3  # Letters and digits below which a title counts as too short
SHORT_DESCRIPTION = 15  # Characters below which a description counts as too short
SAME = 5  # So many items with one description, most of them with titles of their own, share boilerplate
COMMON = 0.1  # Share of the items with a description from which one of its sentences counts as boilerplate …
_COMMON_FEWEST = 20
MOSTLY = 0.8  # … and the share of a description that such sentences must fill
_OWN_TITLES = 0.5
_SHOWN = 60
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_LETTERS = re.compile(r"\w")
_TAG = re.compile(
    r"</?(?:p|br|b|i|u|em|strong|span|div|a|ul|ol|li|h[1-6]|table|tr|td|th|tbody|img|font|hr|center|small|sup|sub|style"
    r"|script|section|article|iframe|blockquote|code|pre)\b[^<>]{0,400}/?>|<!--.{0,400}?-->|<!\[CDATA\[",
    re.IGNORECASE | re.DOTALL,
)
_ENTITY = re.compile(r"&(?:#\d{2,7}|#x[0-9a-f]{2,6}|[a-z][a-z0-9]{1,30});", re.IGNORECASE)
_TOKEN = re.compile(
    r"<\|[\w\- ]{1,40}\|>|\[(?:CLS|SEP|PAD|MASK|UNK|BOS|EOS|INST)\]|\[/INST\]|<<SYS>>|<</SYS>>"
    r"|<(?:s|/s|pad|unk|mask|bos|eos|cls|sep|image|video|start_of_turn|end_of_turn|start_of_image)>"
    r"|<extra_id_\d+>|▁{2,}",
)
# Controls but tab, newline and carriage return; marks that turn the direction of writing round.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069\ufff9-\ufffb]")
_FILLER = re.compile(
    r"\W*(?:n/?a|null|none|nil|nan|undefined|tbd|tba|todo|test|xxx+|unknown|no (?:title|name|description)|untitled"
    r"|description|title|lorem ipsum.*|#n/a|#ref!|#value!|\{\{.*\}\}|\$\{.*\})\W*",
    re.IGNORECASE | re.DOTALL,
)
_DAMAGED = re.compile(r"[^\x00-\x7f]+")


class TextCheck:
    """Checks the texts of a catalogue; ``language`` (ISO 639-1) is that of most of them, None where it is unknown.

    ``lengths`` are the characters of title and description of each item that was read, in that order.
    """

    def __init__(self, items: Items, language: str | None) -> None:
        self.lengths = array("i")
        self._items = items
        self._language = None if language is None else language.partition("-")[0]
        self._described = array("q")
        self._descriptions = array("Q")
        self._owners, self._sentences, self._lengths = array("q"), array("Q"), array("i")

    def __call__(self, texts: Iterable[ItemTexts]) -> Iterator[Finding]:
        """Findings about the texts, then about what they have in common."""
        for part in texts:
            for row, title, description in zip(part.rows.tolist(), part.titles, part.descriptions, strict=True):
                yield from self._one(row, title, description)
        yield from self._repeated()
        yield from self._boilerplate()

    def _one(self, row: int, title: str | None, description: str | None) -> Iterator[Finding]:
        titled, described = (title or "").strip(), (description or "").strip()
        self.lengths.append(len(titled) + len(described))
        titled, described = titled[:LOOKED_AT], described[:LOOKED_AT]
        if not titled and not described:
            yield self._items.finding("text.missing", row, "neither title nor description")
            return
        if not titled and self._items.title_column:
            yield self._finding("text.no_title", row, "no title", self._items.title_column)
        if not described and self._items.description_column:
            yield self._finding("text.no_description", row, "no description", self._items.description_column)
        if titled:
            yield from self._text(row, titled, self._items.title_column)
        if described and text_hash(titled) == text_hash(described):
            yield self._finding("text.title_is_description", row, titled, self._items.description_column)
        elif described:
            yield from self._text(row, described, self._items.description_column)
            self._note(row, described)

    def _text(self, row: int, text: str, column: str | None) -> Iterator[Finding]:
        is_title = column == self._items.title_column
        if is_filler(text):
            yield self._finding("text.filler", row, text, column)
            return
        if len(_LETTERS.findall(text)) < SHORT_TITLE if is_title else len(text) < SHORT_DESCRIPTION:
            yield self._finding("text.short", row, text, column)
        for kind, found in (
            ("text.html", markup(text)),
            ("text.mojibake", double_decoded(text)),
            ("text.control_tokens", control_token(text)),
        ):
            if found is not None:
                yield self._finding(kind, row, f"{found} in: {text}", column)
        if self._language is not None and not is_title:
            yield from self._language_of(row, text, column)

    def _language_of(self, row: int, text: str, column: str | None) -> Iterator[Finding]:
        found = languages_of(text)
        if len(found) > 1:
            yield self._finding("text.mixed", row, f"{', '.join(found)}: {text}", column)
        elif (language := found[0] if found else language_of(text)) not in (None, self._language):
            yield self._finding("text.language", row, f"{language}: {text}", column)

    def _note(self, row: int, text: str) -> None:
        """Keep the hashes of a description and of its sentences."""
        self._described.append(row)
        self._descriptions.append(text_hash(text))
        for sentence in _SENTENCE.split(text):
            if sentence:
                self._owners.append(row)
                self._sentences.append(text_hash(sentence))
                self._lengths.append(len(sentence))

    def _repeated(self) -> Iterator[Finding]:
        rows, column = np.array(self._described, np.int64), self._items.description_column
        for part in equal_groups(np.array(self._descriptions, np.uint64)):
            own = rows[part]
            if len(own) >= SAME and len(np.unique(self._items.titles[own])) >= _OWN_TITLES * len(own):
                detail = f"the description of {len(own):,} items"
                for row in own.tolist():
                    yield self._finding("text.repeated", row, detail, column, float(len(own)))

    def _boilerplate(self) -> Iterator[Finding]:
        owners, hashes = np.array(self._owners, np.int64), np.array(self._sentences, np.uint64)
        lengths = np.array(self._lengths, np.int64)
        if not len(owners):
            return
        order = np.lexsort((owners, hashes))
        first = np.ones(len(order), bool)  # an item that says a sentence twice counts once
        first[1:] = (np.diff(hashes[order]) != 0) | (np.diff(owners[order]) != 0)
        known, counts = np.unique(hashes[order][first], return_counts=True)
        common = counts[np.searchsorted(known, hashes)] >= max(_COMMON_FEWEST, COMMON * len(self._described))
        n = len(self._items)
        whole = np.bincount(owners, lengths, minlength=n)
        shared = np.bincount(owners, lengths * common, minlength=n)
        share = np.divide(shared, whole, out=np.zeros(n), where=whole > 0)
        for row in np.flatnonzero(share >= MOSTLY).tolist():
            detail = f"{share[row]:.0%} of the description are sentences that many items have"
            yield self._finding("text.boilerplate", row, detail, self._items.description_column, float(share[row]))

    def _finding(self, kind: str, row: int, text: str, column: str | None, amount: float = 0.0) -> Finding:
        shown = " ".join(text.split())
        shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
        return self._items.finding(kind, row, shown, amount, column=column)


def markup(text: str) -> str | None:
    """The first HTML tag or entity of a text, or None."""
    if "<" in text and (found := _TAG.search(text)):
        return found.group()
    if "&" in text:
        for entity in _ENTITY.finditer(text):
            if html.unescape(entity.group()) != entity.group():
                return entity.group()
    return None


def double_decoded(text: str) -> str | None:
    """The first piece of a text that ftfy takes for UTF-8 read in another encoding (``Ã©`` for ``é``), or None.

    Replacement characters count too.
    """
    if "\ufffd" in text:
        at = text.index("\ufffd")
        return text[max(0, at - 8) : at + 8]
    bad = None if text.isascii() else BADNESS_RE.search(text)
    piece = None if bad is None else _DAMAGED.search(text, bad.start())
    return None if piece is None else piece.group()


def control_token(text: str) -> str | None:
    """The first control token of a language model, or control character, of a text; or None."""
    if found := _TOKEN.search(text):
        return found.group()
    if found := _CONTROL.search(text):
        return f"U+{ord(found.group()):04X}"
    return None


def is_filler(text: str) -> bool:
    """Whether a text stands for none: ``n/a``, ``null``, ``lorem ipsum …``, ``{{title}}``."""
    return _FILLER.fullmatch(text) is not None
