"""The filter language: what people write after ``--where``, as conditions.

    genres = Drama and (year >= 1990 or not price < 20)
    brand in (Acme, "Big & Co") and colour contains blue and discount is null

Fields are payload fields of the catalogue. A condition on a field with several values holds where any of them fulfils
it; on a missing value nothing holds, so ``brand != Acme`` and ``not brand = Acme`` also find items without a brand.

========================================  ================================================================
``=``  ``!=``                             equal, or not; words exactly as written
``<``  ``<=``  ``>``  ``>=``              of numbers
``in (a, b)``  ``not in (a, b)``          one of several
``contains``                              the words have this text in them, as written
``exists``  ``is null``  ``is not null``  whether there is a value
``and``  ``or``  ``not``  ``( )``         ``not`` binds closest, then ``and``
========================================  ================================================================

Words with blanks, commas, parentheses or operators in them stand in single or double quotes; a quote within is doubled.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import isfinite
from typing import Any

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from molar_retrieval import limits
from molar_retrieval.errors import RequestError, nearest, shown
from molar_retrieval.ranking.filters import (
    And,
    Between,
    Contains,
    Equals,
    Exists,
    Expression,
    Not,
    OneOf,
    Or,
    Scalar,
    check,
)

Kind = str  # of a field: keyword, integer, float or bool

_PLAIN = r"""[^\s()'",=!<>]"""
_GRAMMAR = rf"""
    ?start: any
    ?any: all (OR all)*
    ?all: each (AND each)*
    ?each: NOT each -> no
        | "(" any ")"
        | name EQUAL value -> equal
        | name UNEQUAL value -> unequal
        | name ORDER value -> order
        | name IN "(" value ("," value)* ")" -> one_of
        | name NOT IN "(" value ("," value)* ")" -> none_of
        | name CONTAINS value -> contains
        | name EXISTS -> exists
        | name IS NULL -> missing
        | name IS NOT NULL -> exists
    name: WORD | QUOTED
    value: WORD | QUOTED
    OR: /or(?!{_PLAIN})/i
    AND: /and(?!{_PLAIN})/i
    NOT: /not(?!{_PLAIN})/i
    IN: /in(?!{_PLAIN})/i
    CONTAINS: /contains(?!{_PLAIN})/i
    EXISTS: /exists(?!{_PLAIN})/i
    IS: /is(?!{_PLAIN})/i
    NULL: /null(?!{_PLAIN})/i
    UNEQUAL: "!=" | "<>"
    EQUAL: "==" | "="
    ORDER: "<=" | ">=" | "<" | ">"
    QUOTED: /'(?:[^']|'')*'|"(?:[^"]|"")*"/
    WORD.-1: /{_PLAIN}+/
    %ignore /\s+/
"""
_WORDS = {
    "WORD": "a word",
    "QUOTED": "a word",
    "EQUAL": "'='",
    "UNEQUAL": "'!='",
    "ORDER": "'<', '>'",
    "LPAR": "'('",
    "RPAR": "')'",
    "COMMA": "','",
    "$END": "the end",
}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z")
_TRUTHS = {"true": True, "yes": True, "false": False, "no": False}
_WINDOW = 80  # characters of a condition around a mistake that a message repeats
_LARGEST = 2**63
_ORDERS = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}


def parse(text: str, fields: Mapping[str, Kind]) -> Expression:
    """The condition that ``text`` says over a catalogue's fields; a RequestError points at what is not understood."""
    limits.text("the filter", text, limits.CONDITION)
    line = "".join(" " if character.isspace() else character for character in text)
    if not line.strip():
        raise RequestError("the filter is empty", "write a condition, as in genres = Drama, or leave --where out")
    try:
        tree = _parser().parse(line)
    except UnexpectedInput as error:
        raise _misread(line, error, fields) from error
    expression = _Reader(line, fields).read(tree)
    check(expression)
    return expression


class _Reader:
    """From a syntax tree to an expression over known fields."""

    def __init__(self, line: str, fields: Mapping[str, Kind]) -> None:
        self.line = line
        self.fields = fields

    def read(self, tree: Tree[Token], depth: int = 0) -> Expression:
        if depth > limits.LEVELS:
            raise RequestError(f"the filter has more than {limits.LEVELS} levels", "take parentheses or negations away")
        parts: list[Any] = [child for child in tree.children if isinstance(child, Tree)]
        if tree.data in ("any", "all", "no"):
            operands = tuple(self.read(part, depth + 1) for part in parts)
            return Not(operands[0]) if tree.data == "no" else (Or if tree.data == "any" else And)(operands)
        field = self._field(parts[0].children[0])
        values = [part.children[0] for part in parts[1:]]
        match tree.data:
            case "equal":
                return Equals(field, self._value(field, values[0]))
            case "unequal":
                return Not(Equals(field, self._value(field, values[0])))
            case "order":
                return self._order(field, next(t for t in tree.children if isinstance(t, Token)), values[0])
            case "one_of":
                return self._one_of(field, values)
            case "none_of":
                return Not(self._one_of(field, values))
            case "contains":
                return self._contains(field, values[0])
            case "missing":
                return Not(Exists(field))
            case _:
                return Exists(field)

    def _field(self, token: Token) -> str:
        name = _unquoted(token)
        if name in self.fields:
            return name
        close = nearest(name, list(self.fields), n=1)
        hint = f"did you mean {close[0]!r}? Fields are" if close else "fields are"
        raise self._wrong(token, f"the catalogue has no field {shown(name)}", f"{hint} {_listed(self.fields)}")

    def _value(self, field: str, token: Token) -> Scalar:
        kind, word = self.fields[field], _unquoted(token)
        if kind == "keyword":
            return word
        if kind == "bool":
            if word.lower() in _TRUTHS:
                return _TRUTHS[word.lower()]
            raise self._wrong(token, f"{field!r} is true or false", f"write {field} = true")
        return self._number(field, token)

    def _number(self, field: str, token: Token) -> float | int:
        word = _unquoted(token)
        if not _NUMBER.match(word):
            if word.lower() == "null":
                raise self._wrong(token, "null is no value", f"write {field} is null")
            raise self._wrong(
                token, f"{field!r} holds numbers, {shown(word)} is none", f"write a number, as in {field} > 5"
            )
        number: float | int = float(word)  # infinite where there are more digits than a number has
        if isfinite(number) and word.lstrip("+-").isdigit():
            number = int(word)
        if not isfinite(number) or (isinstance(number, int) and not -_LARGEST <= number < _LARGEST):
            raise self._wrong(token, "the number is too large", "write a smaller one")
        return number

    def _order(self, field: str, sign: Token, token: Token) -> Expression:
        if self.fields[field] not in ("integer", "float"):
            holds = "is true or false" if self.fields[field] == "bool" else "holds words"
            raise self._wrong(sign, f"{field!r} {holds}, which have no order", "use = or in")
        return Between(field, **{_ORDERS[str(sign)]: self._number(field, token)})

    def _one_of(self, field: str, tokens: list[Token]) -> Expression:
        values = [self._value(field, token) for token in tokens]
        if all(isinstance(value, str | int) and not isinstance(value, bool) for value in values):
            return OneOf(field, tuple(values))  # type: ignore[arg-type]
        return Or(tuple(Equals(field, value) for value in values))

    def _contains(self, field: str, token: Token) -> Expression:
        if self.fields[field] != "keyword":
            return Equals(field, self._value(field, token))
        return Contains(field, _unquoted(token))

    def _wrong(self, token: Token, what: str, hint: str) -> RequestError:
        return _at(self.line, token.start_pos or 0, what, hint)


@lru_cache(maxsize=1)
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", maybe_placeholders=False)


def _misread(line: str, error: UnexpectedInput, fields: Mapping[str, Kind]) -> RequestError:
    names: Iterable[str] = ()
    place, found = len(line.rstrip()), ""
    if isinstance(error, UnexpectedToken):
        names = error.accepts or error.expected
        if error.token.type != "$END":
            place, found = error.token.start_pos or 0, str(error.token)
    elif isinstance(error, UnexpectedCharacters):
        names, place = error.allowed or (), error.column - 1
        found = line[place:].split(maxsplit=1)[0]
    wanted = sorted({_WORDS.get(name, name.lower()) for name in names})
    what = f"{shown(found)} does not fit here" if found else "something is missing at the end"
    if wanted:
        what += f"; it could be {_listed(wanted)}"
    blank = isinstance(error, UnexpectedToken) and error.token.type == "WORD" and "$END" in names
    hint = "put words with blanks in quotes" if blank else f"fields are {_listed(fields)}"
    return _at(line, place, what, hint)


def _at(line: str, place: int, what: str, hint: str) -> RequestError:
    begin = max(0, min(place - _WINDOW // 2, len(line) - _WINDOW))
    line, place = line[begin : begin + _WINDOW], place - begin
    caret = " " * sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line[:place]) + "^"
    return RequestError(f"the filter is not understood: {what}\n  {line}\n  {caret}", hint)


def _listed(names: Iterable[str], most: int = 20) -> str:
    chosen = list(names)
    return ", ".join(chosen[:most]) + (f" and {len(chosen) - most} more" if len(chosen) > most else "")


def _unquoted(token: Token) -> str:
    return token[1:-1].replace(token[0] * 2, token[0]) if token.type == "QUOTED" else str(token)
