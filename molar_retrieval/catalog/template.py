"""How an item is put into words for the encoder: a small template language, rendered a column at a time.

A template is text with fields in braces: ``{title}``, ``{description}``, ``{attributes}`` or the name of a
column. A line whose fields are all empty is dropped. ``{attributes}`` becomes ``genres: Drama, Comedy;
directors: Jane Doe`` from the attribute columns that the template does not name by themselves. Braces are
written ``{{`` and ``}}``.
"""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.catalog.values import join_present
from molar_retrieval.errors import DataError

DEFAULT = "{title}\n{attributes}\n{description}"
ATTRIBUTES = "attributes"


@dataclass(frozen=True)
class Template:
    """A parsed template: its lines, each of words with the field that follows them, None at the end of a line."""

    lines: tuple[tuple[tuple[str, str | None], ...], ...]

    @classmethod
    def parse(cls, template: str, source: str = "the template") -> "Template":
        """Parse a template; a DataError on unbalanced braces, or a format after the field's name."""
        return cls(tuple(_parse_line(line, source) for line in template.split("\n")))

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields, in order, each once."""
        return tuple(dict.fromkeys(field for line in self.lines for _, field in line if field is not None))

    def render(self, fields: Mapping[str, pa.Array], n: int) -> pa.Array:
        """The text of ``n`` items; null for an item of which no field says anything.

        ``fields`` has a string array of ``n`` values (null: nothing to say) for each field of the template.
        """
        rendered = [_render_line(line, fields, n) for line in self.lines]
        text = join_present(rendered, "\n")
        something = _any_valid([fields[name] for name in self.fields], n)
        return pc.if_else(something, text, pa.scalar(None, pa.string()))


def attribute_phrase(columns: Mapping[str, pa.Array], n: int) -> pa.Array:
    """``genres: Drama, Comedy; directors: Jane Doe`` from columns of ``n`` phrases in order; null where all are."""
    if not columns:
        return pa.nulls(n, pa.string())
    named = ((f"{label(name)}: ", phrase) for name, phrase in columns.items())
    return join_present([pc.binary_join_element_wise(*pair, "", null_handling="emit_null") for pair in named], "; ")


def label(column: str) -> str:
    """A column's name as words: ``product_type`` is ``product type``."""
    return " ".join(column.replace("_", " ").split())


def _parse_line(line: str, source: str) -> tuple[tuple[str, str | None], ...]:
    pieces = []
    try:
        for words, field, form, conversion in string.Formatter().parse(line):
            if field is not None and (form or conversion or not field.strip()):
                raise ValueError(f"{line!r} has a field without a plain name")
            pieces.append((words, None if field is None else field.strip()))
    except ValueError as error:
        raise DataError(f"{source}: {error}", "write fields as {title}, and braces of the text as {{ and }}") from error
    return tuple(pieces)


def _render_line(line: Sequence[tuple[str, str | None]], fields: Mapping[str, pa.Array], n: int) -> pa.Array:
    present = [fields[field] for _, field in line if field is not None]
    if not present:
        return pa.repeat(pa.scalar("".join(words for words, _ in line)), n)
    pieces = []
    for words, field in line:
        pieces += [pa.scalar(words)] + ([] if field is None else [pc.fill_null(fields[field], "")])
    return pc.if_else(_any_valid(present, n), pc.binary_join_element_wise(*pieces, ""), pa.scalar(None, pa.string()))


def _any_valid(arrays: Sequence[pa.Array], n: int) -> pa.Array:
    return reduce(pc.or_, map(pc.is_valid, arrays), pa.repeat(pa.scalar(False), n))
