"""How an item is put into words for the encoder: a small template language, rendered a column at a time.

A template is text with fields in braces: ``{title}``, ``{description}``, ``{attributes}`` or the name of a
column. A line whose fields are all empty is dropped. ``{attributes}`` becomes ``genres: Drama, Comedy;
directors: Jane Doe`` from the attribute columns that the template does not name by themselves. Braces are
written ``{{`` and ``}}``.
"""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.catalog.values import join_present
from molar_retrieval.errors import DataError

DEFAULT = "{title}\n{attributes}\n{description}"
ATTRIBUTES = "attributes"


@dataclass(frozen=True)
class Part:
    """A piece of a line: words that stand for themselves, or a field."""

    text: str
    is_field: bool


@dataclass(frozen=True)
class Template:
    """A parsed template: its lines, each a sequence of parts."""

    lines: tuple[tuple[Part, ...], ...]

    @classmethod
    def parse(cls, template: str, source: str = "the template") -> "Template":
        """Parse a template.

        Raises:
            DataError: On unbalanced braces, or a format after the field's name.
        """
        return cls(tuple(_parse_line(line, source) for line in template.split("\n")))

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields, in order, each once."""
        return tuple(dict.fromkeys(part.text for line in self.lines for part in line if part.is_field))

    def render(self, fields: Mapping[str, pa.Array], n: int) -> pa.Array:
        """The text of ``n`` items; null for an item of which no field says anything.

        Args:
            fields: A string array of ``n`` values (null: nothing to say) for each field of the template.
            n: How many items there are.
        """
        rendered = [_render_line(line, fields, n) for line in self.lines]
        text = join_present(rendered, "\n")
        something = _any_valid([fields[name] for name in self.fields], n)
        return pc.if_else(something, text, pa.scalar(None, pa.string()))


def attribute_phrase(columns: Mapping[str, pa.Array], n: int) -> pa.Array:
    """``genres: Drama, Comedy; directors: Jane Doe`` from columns of phrases; null where all are.

    Args:
        columns: A string array of ``n`` values by column name, in the order in which they are told.
        n: How many items there are.
    """
    if not columns:
        return pa.nulls(n, pa.string())
    told = [
        pc.binary_join_element_wise(f"{label(name)}: ", phrase, "", null_handling="emit_null")
        for name, phrase in columns.items()
    ]
    return join_present(told, "; ")


def label(column: str) -> str:
    """A column's name as words: ``product_type`` is ``product type``."""
    return " ".join(column.replace("_", " ").split())


def _parse_line(line: str, source: str) -> tuple[Part, ...]:
    parts = []
    try:
        for words, field, form, conversion in string.Formatter().parse(line):
            if words:
                parts.append(Part(words, is_field=False))
            if field is not None:
                if form or conversion or not field.strip():
                    raise ValueError(f"{line!r} has a field without a plain name")
                parts.append(Part(field.strip(), is_field=True))
    except ValueError as error:
        raise DataError(f"{source}: {error}", "write fields as {title}, and braces of the text as {{ and }}") from error
    return tuple(parts)


def _render_line(line: Sequence[Part], fields: Mapping[str, pa.Array], n: int) -> pa.Array:
    present = [fields[part.text] for part in line if part.is_field]
    pieces = [pc.fill_null(fields[part.text], "") if part.is_field else pa.scalar(part.text) for part in line]
    if not present:
        words = "".join(part.text for part in line)
        return pa.repeat(pa.scalar(words), n)
    return pc.if_else(_any_valid(present, n), pc.binary_join_element_wise(*pieces, ""), pa.scalar(None, pa.string()))


def _any_valid(arrays: Sequence[pa.Array], n: int) -> pa.Array:
    found = pa.repeat(pa.scalar(False), n)
    for array in arrays:
        found = pc.or_(found, pc.is_valid(array))
    return found
