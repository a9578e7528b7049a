"""Signs that a text was damaged on its way: markup, text decoded twice, tokens of a model, fillers."""

import html
import re

from ftfy.badness import BADNESS_RE

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
