"""What only the owner of the tables can say: asked where somebody can answer, else an error that names the option."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from molar_retrieval.catalog.sources import Stem
from molar_retrieval.errors import SettingsError, suggestion

ROLES: Mapping[Stem, tuple[str, ...]] = {
    "items": ("item_id", "variant_id", "title", "description", "image", "stock", "available_from", "active"),
    "interactions": (
        *("user_id", "item_id", "timestamp", "position", "weight", "event"),
        *("order_id", "status", "cancelled_at", "quantity", "price", "value"),
    ),
    "users": ("user_id",),
}
"""What a column of each table can be."""
NONE = ""
"""What a column is called that a table does not have."""


@dataclass(frozen=True)
class Question:
    """Something that the tables do not tell.

    Attributes:
        text: The question.
        answers: What may be answered, each with what it means; in words, an answer of one's own is none.
        option: How it is said on the command line, with ``{}`` for the answer.
    """

    text: str
    answers: Mapping[str, str]
    option: str


Ask = Callable[[Question], str]


def refuse(question: Question) -> str:
    """Where nobody can be asked: a SettingsError that names the option for each answer."""
    said = " or ".join(question.option.format(answer) for answer in question.answers)
    raise SettingsError(question.text, f"say it: {said}")


@dataclass(frozen=True)
class Said:
    """What was said beforehand.

    Attributes:
        columns: By ``item_id`` or ``interactions.item_id``: what the column is called; empty: there is none.
        decimal: The decimal sign of the items' numbers.
        time_format: The ``strptime`` format of the log's times.
        time_zone: The zone of times that name none.
        language: Of the texts.
        level: What is an item where products have variants.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    decimal: str | None = None
    time_format: str | None = None
    time_zone: str | None = None
    language: str | None = None
    level: Literal["product", "variant"] | None = None

    def __post_init__(self) -> None:
        known = [*dict.fromkeys(role for roles in ROLES.values() for role in roles)]
        known += [f"{stem}.{role}" for stem, roles in ROLES.items() for role in roles]
        for key in self.columns:
            if key not in known:
                hint = suggestion(key, known, f"known are {', '.join(known)}")
                raise SettingsError(f"there is no column {key!r} of a catalogue", hint)

    def column(self, stem: Stem, role: str, names: list[str], file: str) -> str | None:
        """The column of a role that was named, empty for none; None where nothing was said of this table.

        A SettingsError where the table does not have it; what was said of ``item_id`` alone may be of the other table.
        """
        named = self.columns.get(f"{stem}.{role}")
        if named is not None and named not in (*names, NONE):
            hint = suggestion(named, names, f"its columns are {', '.join(names)}")
            raise SettingsError(f"{file} has no column {named!r}", hint)
        if named is None and self.columns.get(role) in (*names, NONE):
            return self.columns[role]
        return named
