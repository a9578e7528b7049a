"""Numbers as people write them in tables: 1.299,00 and 1,299.00, with a currency before or behind."""

import pyarrow as pa
import pyarrow.compute as pc

_CURRENCIES = {
    "EUR": ("€", "Euro"),
    "USD": ("$",),
    "GBP": ("£",),
    "JPY": ("¥", "￥", "円"),
    "CHF": (),
    "PLN": ("zł",),
    "CZK": ("Kč",),
    "SEK": (),
    "NOK": (),
    "DKK": (),
    "AUD": (),
    "CAD": (),
}
_WORDS = {word: code for code, words in _CURRENCIES.items() for word in (code, *words)}
_MONEY = "(?:" + "|".join(word.replace("$", r"\$") for word in _WORDS) + ")"
_BLANK = r"[ \x{A0}\x{202F}]?"
_FORM = (
    rf"^(?:{_MONEY}{_BLANK})?[+-]?(?:0|[1-9][0-9]{{0,14}}|[1-9][0-9]{{0,2}}(?:%s[0-9]{{3}}){{1,4}})(?:%s[0-9]+)?"
    rf"(?:{_BLANK}{_MONEY})?$"
)
WRITTEN = {".": _FORM % ("[,’']", r"\."), ",": _FORM % (r"[.\x{A0}\x{202F}]", ",")}
"""Patterns of numbers by their decimal sign; a leading zero (007) makes a code of one."""
EITHER = "|".join(WRITTEN.values())
BESIDE_COMMAS = "other columns have decimal commas"  # 1.299 may be a thousand
MIXED = "some values have a decimal point, others a decimal comma"
_UNSURE = "point or comma may be the decimal sign"


def currencies(array: pa.Array) -> set[str]:
    """The codes of the currencies that some numbers stand with."""
    bare = pc.replace_substring_regex(array.drop_null(), r"[0-9.,’'+\- \x{A0}\x{202F}]", "")
    return {_WORDS[word] for word in pc.unique(bare).to_pylist() if word in _WORDS}


def ambiguity(decimals: set[str], found: set[str], *, separated: bool) -> str | None:
    """Why numbers that could have one of these decimal signs cannot be told; None where they can.

    ``found`` are their currencies; ``separated`` says whether any has a point or a comma.
    """
    if len(found) > 1:
        return f"several currencies ({', '.join(sorted(found))})"
    if len(decimals) > 1 and separated and found != {"JPY"}:  # yen have no decimals
        return _UNSURE
    return None


def sign_tells(reason: str) -> bool:
    """Whether to say the decimal sign is enough where numbers are doubtful for a reason; else they must be mended."""
    return reason in (_UNSURE, BESIDE_COMMAS)


def decimal_commas(array: pa.Array) -> bool:
    """Whether some values can only be numbers with a decimal comma, as 12,50 and 1.299,00, and no currency is there."""
    comma, point = (pc.fill_null(pc.match_substring_regex(array, WRITTEN[sign]), False) for sign in (",", "."))
    return bool(pc.any(pc.and_not(comma, point), min_count=0).as_py()) and not currencies(array)


def as_doubles(array: pa.Array, decimal: str) -> pa.Array:
    """Numbers of the pattern of a decimal sign as float64."""
    kept = "+-" + decimal
    bare = pc.replace_substring_regex(array, rf"[^0-9{kept.replace('-', '')}\-]", "")
    return pc.utf8_ltrim(pc.replace_substring(bare, ",", "."), "+").cast(pa.float64())
