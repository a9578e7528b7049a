"""Arrow values of input files: ids as written, payload types, clean text, numbers with separators and currencies."""

import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

STRING_LIST = pa.list_(pa.string())
_SHOWN = 200
_KINDS = {pa.int64(): "integer", pa.float64(): "float", pa.bool_(): "bool"}

_INVISIBLE = (
    r"[\x00-\x08\x0E-\x1B\x7F-\x84\x86-\x9F\x{200B}\x{2060}\x{FEFF}\x{202A}-\x{202E}\x{2066}-\x{2069}\x{FFF9}-\x{FFFB}]"
)
_SPACE = r"[\s\p{Z}\x0B\x1C-\x1F\x{85}]+"
_UNEVEN = r"[\t-\r\x1C-\x1F\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}]|  "
# Letters have 30 marks at most (Unicode's stream-safe format): to sort more takes time with the square of their number.
_MARKS = r"(\p{M}{30})\p{M}+"
_LONG = 1_000


def clean_text(array: pa.Array) -> pa.Array:
    """Strings in NFC without control characters, each run of white space one blank; null where nothing is left.

    Joiners (U+200C, U+200D) stay: emoji and several scripts need them.
    """
    array = pc.replace_substring_regex(array, _INVISIBLE, "")
    # Finding what needs squeezing takes an eighth of the time of squeezing, and few texts need it.
    uneven = pc.fill_null(pc.match_substring_regex(array, _UNEVEN), False)
    if pc.any(uneven, min_count=0).as_py():
        even = pc.replace_substring_regex(array.filter(uneven), _SPACE, " ")
        array = pc.replace_with_mask(array, uneven, even)
    return _without_empty(pc.utf8_trim(_composed(array), " "))


def _composed(array: pa.Array) -> pa.Array:
    """The strings in Unicode's NFC; by Python, as Arrow before 26 gets it wrong."""
    foreign = pc.fill_null(pc.invert(pc.string_is_ascii(array)), False)
    if not pc.any(foreign, min_count=0).as_py():
        return array
    written = array.filter(foreign)
    long = pc.fill_null(pc.greater(pc.utf8_length(written), _LONG), False)
    if pc.any(long, min_count=0).as_py():
        safe = pc.replace_substring_regex(written.filter(long), _MARKS, r"\1")
        written = pc.replace_with_mask(written, long, safe)
    composed = [unicodedata.normalize("NFC", value) for value in written.to_pylist()]
    return pc.replace_with_mask(array, foreign, pa.array(composed, array.type))


def is_list(kind: pa.DataType) -> bool:
    """Whether values of this type are lists."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_string(kind: pa.DataType) -> bool:
    """Whether values of this type are strings, dictionary-encoded or not."""
    kind = _bare(kind)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _bare(kind: pa.DataType) -> pa.DataType:
    """The type of the values, dictionary-encoded or not."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def is_text(kind: pa.DataType) -> bool:
    """Whether values of this type are strings or lists of strings."""
    return is_string(kind) or (is_list(kind) and is_string(kind.value_type))


def payload_type(kind: pa.DataType) -> pa.DataType | None:
    """The type under which a column is stored: string, list of strings, int64, double, bool; None where none fits."""
    types, kind = pa.types, _bare(kind)
    if is_list(kind):
        return STRING_LIST if payload_type(kind.value_type) is not None and not is_list(kind.value_type) else None
    if types.is_boolean(kind):
        return pa.bool_()
    if types.is_integer(kind):
        return pa.float64() if types.is_uint64(kind) else pa.int64()
    if types.is_floating(kind) or types.is_decimal(kind):
        return pa.float64()
    if is_string(kind) or types.is_temporal(kind) or types.is_null(kind):
        return None if types.is_duration(kind) or types.is_interval(kind) else pa.string()
    return None


def kind_of(stored: pa.DataType) -> str:
    """What filters take a stored column for: ``integer``, ``float``, ``bool`` or ``keyword``."""
    return _KINDS.get(stored, "keyword")


def type_of_kind(kind: str) -> pa.DataType:
    """The stored type of single values that filters take for a kind."""
    return next((stored for stored, own in _KINDS.items() if own == kind), pa.string())


def as_strings(array: pa.Array) -> pa.Array:
    """Values as strings, 7 rather than 7.0; null where missing.

    Meant for ids: integral floats (what pandas makes of integers beside a missing value) lose their ``.0``;
    bytes that are not UTF-8, and dates beyond the calendar, become null.
    """
    kind = array.type
    if pa.types.is_dictionary(kind):
        return as_strings(array.dictionary_decode())
    if pa.types.is_floating(kind):
        return _floats_as_written(array.cast(pa.float64()))
    if is_bytes(kind):
        return pa.array([decoded(v) for v in array.to_pylist()], pa.string())
    if pa.types.is_timestamp(kind):
        moment = array.cast(pa.timestamp(kind.unit)).cast(pa.string())  # without the zone: UTC
        return _within_calendar(pc.replace_substring_regex(moment, r"\.0+$", ""))
    return _within_calendar(array.cast(pa.string())) if pa.types.is_temporal(kind) else array.cast(pa.string())


def shown(array: pa.Array, row: int) -> str:
    """One value for messages, as Python writes it, 200 characters at most."""
    try:
        text = repr(array[row].as_py())
    except (ValueError, OverflowError):  # a moment that Python has no word for, or an unknown zone
        wide = pa.types.is_temporal(array.type) and array.type.bit_width == 64
        text = f"{array[row : row + 1].view(pa.int64())[0].as_py()} as {array.type}" if wide else "?"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def doubles(array: pa.Array) -> pa.Array:
    """Numbers or truths as float64, the nearest ones to integers of more than 15 digits; null where missing."""
    return as_payload(array, pa.float64())


def is_number(kind: pa.DataType) -> bool:
    """Whether values of this type are numbers or truths, dictionary-encoded or not."""
    types, kind = pa.types, _bare(kind)
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_boolean(kind))


def is_word(kind: pa.DataType) -> bool:
    """Whether each value of this type can be written as one word, as ids must be."""
    return is_bytes(kind) or (payload_type(kind) is not None and not is_list(kind))


def as_payload(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Values as the payload type that :func:`payload_type` names; empty strings and missing elements are dropped."""
    if kind == STRING_LIST:
        return map_elements(array, lambda flat: _without_empty(as_strings(flat)))
    if kind == pa.string():
        return _without_empty(as_strings(array))
    return (array.dictionary_decode() if pa.types.is_dictionary(array.type) else array).cast(kind, safe=False)


def as_phrase(array: pa.Array) -> pa.Array:
    """Values as clean text, the elements of a list joined by commas; null where they are empty."""
    if not is_list(array.type):
        return clean_text(as_strings(array))
    lists = map_elements(array, lambda flat: clean_text(as_strings(flat)))
    joined = pc.binary_join(lists, ", ")
    return pc.if_else(pc.equal(joined, ""), pa.scalar(None, pa.string()), joined)


def join_present(arrays: Sequence[pa.Array], separator: str) -> pa.Array:
    """Strings joined element by element, leaving out what is null; null where all are.

    The first, empty string stays where all are null: without it Arrow leaves out the whole row.
    """
    joined = pc.binary_join_element_wise(pa.scalar(""), *arrays, separator, null_handling="skip")
    present = pc.utf8_slice_codeunits(joined, len(separator))
    return pc.if_else(pc.equal(joined, ""), pa.scalar(None, pa.string()), present)


def map_elements(array: pa.Array, change: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """Lists of strings with ``change`` applied to all elements at once; elements that become null are dropped."""
    flat = change(pc.list_flatten(array))
    keep = pc.is_valid(flat)
    parents = np.asarray(pc.list_parent_indices(array))[np.asarray(keep)]
    lengths = np.bincount(parents, minlength=len(array)) if len(array) else np.zeros(0, np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    mask = pc.is_null(array) if array.null_count else None
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat.filter(keep), mask=mask)


def split_lists(array: pa.Array, separator: str) -> pa.Array:
    """Strings split at a separator, blanks around the elements removed; lists pass through."""
    if is_list(array.type):
        return array
    pieces = pc.split_pattern(as_strings(array), separator)
    return map_elements(pieces.cast(STRING_LIST), lambda flat: _without_empty(pc.utf8_trim_whitespace(flat)))


def _without_empty(array: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(array, ""), pa.scalar(None, array.type), array)


def _floats_as_written(array: pa.Array) -> pa.Array:
    values = np.asarray(array.fill_null(np.nan))
    whole = np.isfinite(values) & (np.abs(values) < 2**63) & (values == np.floor(values))
    integers = pa.array(np.where(whole, values, 0).astype(np.int64)).cast(pa.string())
    written = pc.if_else(pa.array(whole), integers, array.cast(pa.string()))
    return pc.if_else(pa.array(np.isnan(values)), pa.scalar(None, pa.string()), written)


def is_bytes(kind: pa.DataType) -> bool:
    """Whether values of this type are bytes."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _within_calendar(written: pa.Array) -> pa.Array:
    """What Arrow wrote for dates and times, null where it wrote that it cannot."""
    beyond = pc.starts_with(written, "<value out of range")
    return pc.if_else(pc.fill_null(beyond, False), pa.scalar(None, pa.string()), written)


def decoded(value: Any) -> str | None:
    """Bytes as UTF-8; None for None, and for what is not."""
    try:
        return None if value is None else bytes(value).decode("utf-8")
    except UnicodeDecodeError:
        return None


_CODES = ("EUR", "USD", "GBP", "JPY", "CHF", "PLN", "CZK", "SEK", "NOK", "DKK", "AUD", "CAD")
_WORDS = {code: code for code in _CODES} | {
    "€": "EUR", "Euro": "EUR", "$": "USD", "£": "GBP", "¥": "JPY", "￥": "JPY", "円": "JPY", "zł": "PLN", "Kč": "CZK",
}  # fmt: skip
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
    """Why the decimal sign of numbers is ambiguous; None where it is clear.

    ``found`` are their currencies; ``separated`` says whether any has a point or a comma.
    """
    if len(found) > 1:
        return f"several currencies ({', '.join(sorted(found))})"
    if len(decimals) > 1 and separated and found != {"JPY"}:  # yen have no decimals
        return _UNSURE
    return None


def sign_tells(reason: str) -> bool:
    """Whether naming the decimal sign resolves an ambiguity; otherwise the file must be corrected."""
    return reason in (_UNSURE, BESIDE_COMMAS)


def as_doubles(array: pa.Array, decimal: str) -> pa.Array:
    """Numbers of the pattern of a decimal sign as float64."""
    kept = "+-" + decimal
    bare = pc.replace_substring_regex(array, rf"[^0-9{kept.replace('-', '')}\-]", "")
    return pc.utf8_ltrim(pc.replace_substring(bare, ",", "."), "+").cast(pa.float64())
