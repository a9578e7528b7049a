"""A part of ReQL, the language of Recombee's filters, as conditions of our filter language.

'price' < 40 and ("Drama" in 'genres' or 'brand' in {"Acme", "Apex"}) and not 'sold' and 'year' != null
"""

import json
from functools import cache, lru_cache
from typing import Any

from lark import Lark, Transformer
from lark.exceptions import LarkError

from molar_retrieval import limits
from molar_serving.compat.translated import quoted
from molar_serving.problems import ProblemError

_GRAMMAR = r"""
    ?start: either
    ?either: both ("or"i both)*
    ?both: one ("and"i one)*
    ?one: "not"i one -> no
        | "(" either ")"
        | PROPERTY COMPARISON value -> compared
        | value COMPARISON PROPERTY -> turned
        | value "in"i PROPERTY -> has
        | PROPERTY "in"i "{" value ("," value)* "}" -> among
        | PROPERTY -> holds
    value: STRING | NUMBER | WORD
    PROPERTY: /'[^']+'/
    STRING: /"(?:[^"\\]|\\.)*"/
    NUMBER: /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/
    WORD: "true"i | "false"i | "null"i
    COMPARISON: "==" | "!=" | "<=" | ">=" | "<" | ">"
    %import common.WS
    %ignore WS
"""
_TURNED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


class _Conditions(Transformer[Any, str]):
    """Conditions from the leaves up, while they are parsed, so that nothing recurses."""

    def value(self, found: list[str]) -> Any:
        return json.loads(found[0].lower() if found[0][0] not in '"-0123456789' else found[0])

    def either(self, parts: list[str]) -> str:
        return f"({' or '.join(parts)})"

    def both(self, parts: list[str]) -> str:
        return f"({' and '.join(parts)})"

    def no(self, parts: list[str]) -> str:
        return f"not ({parts[0]})"

    def compared(self, parts: list[Any]) -> str:
        name, comparison, value = parts
        if value is None:
            return f"{_name(name)} is {'not ' if comparison == '!=' else ''}null"
        return f"{_name(name)} {'=' if comparison == '==' else comparison} {_word(value)}"

    def turned(self, parts: list[Any]) -> str:
        value, comparison, name = parts
        return self.compared([name, _TURNED.get(comparison, comparison), value])

    def has(self, parts: list[Any]) -> str:
        return f"{_name(parts[1])} = {_word(parts[0])}"

    def among(self, parts: list[Any]) -> str:
        return f"{_name(parts[0])} in ({', '.join(map(_word, parts[1:]))})"

    def holds(self, parts: list[str]) -> str:
        return f"{_name(parts[0])} = true"


def _name(written: str) -> str:
    return "item_id" if written == "'itemId'" else quoted(written[1:-1])


def _word(value: Any) -> str:
    return quoted(value) if isinstance(value, str) else json.dumps(value)


@cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", transformer=_Conditions())


@lru_cache(256)
def condition(filter_: str) -> str:
    """A filter as a condition; a ProblemError (501) where it needs more of ReQL than is understood here."""
    try:
        if len(filter_) > limits.CONDITION:
            raise ProblemError(400, f"the filter has more than {limits.CONDITION:,} characters", "make it shorter")
        return str(_parser().parse(filter_))
    except (LarkError, ValueError) as error:
        remedy = (
            "compare properties with values, name some in {…}, join by and, or, not; rules can do more: docs/ranking.md"
        )
        raise ProblemError(501, f"of ReQL this is not supported: {filter_[:200]}", remedy, field="filter") from error
