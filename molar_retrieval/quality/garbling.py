"""Signs that a text was damaged on its way: markup, text decoded twice, tokens of a model, fillers."""

import html
import re
import unicodedata

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
# The bytes of UTF-8 beyond ASCII, as Windows-1252 shows them; five of its places are empty and pass as controls.
_HIGH = {byte: bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(0x80, 0x100)}
_BYTE = {character: byte for byte, character in _HIGH.items()} | {chr(byte): byte for byte in range(0x80, 0x100)}
_RUN = re.compile("[" + re.escape("".join(_BYTE)) + "]{2,}")
_CLOSING = "\u2019\u201c\u201d\u00bb"
_SUSPECT = "\u00c2\u00c3"  # where most of Western Europe's letters end up; no word has them before a quotation mark


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
    """The first piece of a text that is UTF-8 read as Windows-1252 or Latin-1 (``Ã©`` for ``é``), or None.

    Replacement characters count too. A capital umlaut before a closing quotation mark is no such piece, although its
    bytes would fit.
    """
    if "\ufffd" in text:
        at = text.index("\ufffd")
        return text[max(0, at - 8) : at + 8]
    if text.isascii():
        return None
    for run in _RUN.finditer(text):
        piece = run.group()
        data = bytes(_BYTE[character] for character in piece)
        for start in range(len(data)):
            length = _sequence(data, start)
            found = piece[start : start + length]
            if length and not (length == 2 and found[1] in _CLOSING and found[0] not in _SUSPECT):
                return found
    return None


def _sequence(data: bytes, start: int) -> int:
    """Length of the UTF-8 sequence of several bytes that starts at a place and means something printable; 0: none."""
    first = data[start]
    length = 2 if 0xC2 <= first < 0xE0 else 3 if 0xE0 <= first < 0xF0 else 4 if 0xF0 <= first < 0xF5 else 0
    if not length or start + length > len(data):
        return 0
    try:
        character = data[start : start + length].decode("utf-8")
    except UnicodeDecodeError:
        return 0
    return 0 if unicodedata.category(character[0]) in {"Cn", "Co", "Cc"} else length


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
