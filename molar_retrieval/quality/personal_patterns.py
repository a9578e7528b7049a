"""How personal data look: addresses, telephone, card and account numbers; and how to show them masked.

Patterns are made to be right rather than to find all: numbers, prices, dates and versions of products abound.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address

EMAIL, PHONE, CARD = "personal.email", "personal.phone", "personal.card"
ACCOUNT, ADDRESS, NETWORK = "personal.account", "personal.address", "personal.network"


@dataclass(frozen=True)
class PersonalHit:
    """Something that looks like personal data: ``value``, never to be shown, and ``shown``, masked."""

    value: str
    shown: str


@dataclass(frozen=True)
class Pattern:
    """How one kind of personal data looks.

    ``hint`` is an RE2 expression that every text with such data matches, quick to look for in whole columns; ``hits``
    finds them in one text; ``in_items``: whether they are looked for in the items file, too.
    """

    kind: str
    hint: str
    hits: Callable[[str], Iterator[PersonalHit]]
    in_items: bool = True


_MAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@"
    r"((?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+)([A-Za-z]{2,24})(?![\w@])"
)
_OFFICES = (
    "info contact kontakt support service help hilfe sales vertrieb office mail hello press presse team admin "
    "webmaster noreply no-reply newsletter marketing customerservice kundenservice shop orders order returns privacy"
)
_NUMBER = re.compile(r"(?<![\w.,+-])\d(?:[ -]?\d){11,18}(?![\w-]|[.,]\d)")
_CARD_WORD = re.compile(r"(?i:\b(?:cards?|visa|mastercard|amex|maestro|karte|kreditkarte|carte|tarjeta|cc|cvv|cvc)\b)")
_GROUPS = re.compile(r"\d{4}([ -])\d{4}\1\d{4}\1\d{1,7}|\d{4}([ -])\d{6}\2\d{4,5}")
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?(?!\w)")
_TEL_WORD = (
    r"(?i:\b(?:tel|telefon|telephone|phone|mobile|mobil|handy|cell|call|fax|whatsapp)\b"
    r"\.?(?: ?(?:no|nr|number|nummer)\b\.?)?:? {0,2})"
)
_PHONE = re.compile(
    rf"(?:(?<![\w+.,/-])(?=\+[1-9]|00[1-9]\d{{0,2}}[ ./-]|\([2-9]\d\d\))|{_TEL_WORD})"
    r"(?P<number>[+(]?\d[\d ()./-]{5,22}\d)(?![\w]|[.,]\d)"
)
_REGIONS = {"+": ("US",), "0": ("DE",), "(": ("US",)}
"""Where numbers are written as those that begin so: with a code of country, with 00 before it, with one of area."""
_TOLD = ("US", "DE", "GB", "FR", "ES", "IT")
"""Whose ways of writing are known where a word says that a number is one of telephone."""
_STREETS = (
    re.compile(
        r"\b\d{1,5}[A-Za-z]? (?:[NSEW]\.? )?(?:[A-Z][a-z]+ ){1,3}"
        r"(?:Street|St\.|Avenue|Ave\.?|Road|Rd\.?|Lane|Ln\.?|Drive|Dr\.|Boulevard|Blvd\.?)(?!\w)"
    ),
    re.compile(r"\b[A-ZÄÖÜ][a-zäöüß-]*(?:straße|strasse|str\.|gasse|allee|ufer) \d{1,4} ?[a-z]?\b"),
    re.compile(r"\b\d{1,4}(?: ?bis)?,? (?:rue|avenue|boulevard|place|chemin) (?:de |du |des |la |le |l'|d')*[A-Z]\w+"),
)


def masked(text: str, start: int = 1, end: int = 0) -> str:
    """The first and the last characters, and dots for the rest."""
    return f"{text[:start]}…{text[len(text) - end :]}" if len(text) > start + end else "…"


def is_card(digits: str) -> bool:
    """Whether digits have a length, a beginning and a check digit as card numbers have.

    Of 13 digits are barcodes and hardly a card any more; a number of one digit is a filler.
    """
    from stdnum import luhn

    return is_issued(digits) and len(set(digits)) > 1 and bool(luhn.is_valid(digits))


def is_issued(digits: str) -> bool:
    """Whether digits have a length and a beginning as card numbers have."""
    from stdnum import ean

    length, start = len(digits), int(digits[:4])
    return (
        (digits[0] == "4" and length in {16, 19})
        or (length == 16 and (5100 <= start <= 5599 or 2221 <= start <= 2720 or 3528 <= start <= 3589))
        or (length == 15 and digits[:2] in {"34", "37"})
        or (16 <= length <= 19 and (digits[:2] in {"62", "65"} or start == 6011 or 6440 <= start <= 6499))
        or (length == 14 and (3000 <= start <= 3059 or digits[:2] in {"36", "38"}) and not ean.is_valid(digits))
    )


def _mails(text: str) -> Iterator[PersonalHit]:
    for match in _MAIL.finditer(text):
        name, _, host = match[0].partition("@")
        if name.lower() not in _OFFICES.split():
            yield PersonalHit(match[0].lower(), f"{masked(name)}@{masked(host)}.{match[2]}")


def _long_numbers(text: str) -> Iterator[str]:
    """Numbers written as those of cards are: alone, in groups, or in a text that speaks of cards."""
    cards = _CARD_WORD.search(text) is not None
    for match in _NUMBER.finditer(text):
        if match[0] == text or cards or _GROUPS.fullmatch(match[0]):
            yield re.sub(r"\D", "", match[0])


def issued(text: str) -> int:
    """How many numbers in a text could be of a card, whatever their check digit; one in ten has the right one."""
    return sum(is_issued(digits) for digits in _long_numbers(text))


def _cards(text: str) -> Iterator[PersonalHit]:
    for digits in _long_numbers(text):
        if is_card(digits):
            yield PersonalHit(digits, masked(digits, 1, 4))


def _accounts(text: str) -> Iterator[PersonalHit]:
    from stdnum import iban

    for match in _IBAN.finditer(text):
        plain = match[0].replace(" ", "")
        if iban.is_valid(plain):
            yield PersonalHit(plain, masked(plain, 2, 2))


def _phones(text: str) -> Iterator[PersonalHit]:
    """Numbers that some region has given out, with a code of country or area, or behind a word for telephone."""
    from phonenumbers import PhoneNumberMatcher

    for match in _PHONE.finditer(text):
        written = match["number"]
        regions = _REGIONS[written[0]] if match.start() == match.start("number") else _TOLD
        found = (number for region in regions for number in PhoneNumberMatcher(written, region) if number.start == 0)
        if number := next(found, None):
            digits = re.sub(r"\D", "", number.raw_string)
            yield PersonalHit(digits, masked(digits, 2, 2))


def _streets(text: str) -> Iterator[PersonalHit]:
    for pattern in _STREETS:
        for match in pattern.finditer(text):
            yield PersonalHit(match[0], " ".join(masked(word) for word in match[0].split()))


def _networks(text: str) -> Iterator[PersonalHit]:
    try:
        address = IPv4Address(text)
    except AddressValueError:
        return
    if not address.is_loopback and address.packed[0] not in {0, 255}:
        yield PersonalHit(text, f"{text.split('.')[0]}.….….…")


PATTERNS = (
    Pattern(EMAIL, "@", _mails),
    Pattern(CARD, r"\d(?:[ -]?\d){13}", _cards),
    Pattern(ACCOUNT, r"[A-Z]{2}\d{2} ?[A-Z0-9]{4}", _accounts),
    Pattern(PHONE, rf"\+[1-9]|00[1-9]\d{{0,2}}[ ./-]|\([2-9]\d\d\)|{_TEL_WORD}\(?0?\d", _phones),
    Pattern(ADDRESS, r"\d.*[A-Z][a-z]|[a-zß.] \d", _streets, in_items=False),
    Pattern(NETWORK, r"^\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}$", _networks, in_items=False),
)
