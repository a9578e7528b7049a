"""Titles and descriptions that say nothing, say it badly, or say the same as all others."""

import html
import re
from array import array
from collections.abc import Iterable, Iterator

import numpy as np
from ftfy.badness import BADNESS_RE

from molar_retrieval.data.languages import language_of, languages_of
from molar_retrieval.quality.findings import Finding
from molar_retrieval.quality.items import LOOKED_AT, Items, Rows, Texts, equal_groups, text_hash

SHORT_TITLE = 3  # Letters and digits below which a title counts as too short
SHORT_DESCRIPTION = 15  # Characters below which a description counts as too short
SAME = 5  # So many items with one description, most of them with titles of their own, share a filler
_OWN_TITLES = 0.5
_SHOWN = 60
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


def check_texts(items: Items, texts: Iterable[tuple[Rows, Texts, Texts]], language: str | None) -> Iterator[Finding]:
    """Findings about texts, then about descriptions that many items have.

    ``language`` (ISO 639-1) is that of most of them, None where it is unknown.
    """
    language = None if language is None else language.partition("-")[0]
    described, descriptions = array("q"), array("Q")

    def fault(kind: str, row: int, text: str, column: str | None, amount: float = 0.0) -> Finding:
        shown = " ".join(text.split())
        shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
        return items.finding(kind, row, shown, amount, column=column)

    for rows, *parts in texts:
        for row, *both in zip(rows.tolist(), *parts, strict=True):
            title, description = ((text or "").strip()[:LOOKED_AT] for text in both)
            for kind, seen, column in _of_item(title, description, items, language):
                yield fault(kind, row, seen, column)
            if description and text_hash(title) != text_hash(description):
                described.append(row)
                descriptions.append(text_hash(description))
    for group in equal_groups(np.array(descriptions, np.uint64)):
        own = np.array(described, np.int64)[group]
        if len(own) >= SAME and len(np.unique(items.titles[own])) >= _OWN_TITLES * len(own):
            for row in own.tolist():
                detail = f"the description of {len(own):,} items"
                yield fault("text.repeated", row, detail, items.description_column, float(len(own)))


def _of_item(title: str, description: str, items: Items, language: str | None) -> Iterator[tuple[str, str, str | None]]:
    """Kinds of fault of the texts of an item, what is seen of each, and in which column."""
    if not title and not description:
        yield "text.missing", "neither title nor description", None
        return
    if not title and items.title_column:
        yield "text.no_title", "no title", items.title_column
    if not description and items.description_column:
        yield "text.no_description", "no description", items.description_column
    if title:
        yield from ((*one, items.title_column) for one in _of_text(title, SHORT_TITLE, None))
    if description and text_hash(title) == text_hash(description):
        yield "text.title_is_description", title, items.description_column
    elif description:
        yield from ((*one, items.description_column) for one in _of_text(description, None, language))


def _of_text(text: str, letters: int | None, language: str | None) -> Iterator[tuple[str, str]]:
    """Kinds of fault of one text, and what is seen of each.

    ``letters`` are the fewest of a title, None: it is a description; ``language`` is what a description should be in.
    """
    if is_filler(text):
        yield "text.filler", text
        return
    if len(text) < SHORT_DESCRIPTION if letters is None else len(_LETTERS.findall(text)) < letters:
        yield "text.short", text
    for kind, found in (
        ("text.html", markup(text)),
        ("text.mojibake", double_decoded(text)),
        ("text.control_tokens", control_token(text)),
    ):
        if found is not None:
            yield kind, f"{found} in: {text}"
    if language is not None:
        clear = languages_of(text)
        if len(clear) > 1:
            yield "text.mixed", f"{', '.join(clear)}: {text}"
        elif (own := clear[0] if clear else language_of(text)) not in (None, language):
            yield "text.language", f"{own}: {text}"


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
