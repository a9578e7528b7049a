"""Rules over the wire."""

from typing import Annotated, Any

from msgspec import Meta, Struct, field

from molar_retrieval import limits
from molar_serving.wire import Id, Strict
from molar_serving.wire_generations import ListsCompared

PREVIEWED = 500
"""People whose lists a preview compares."""
_Rules = Annotated[list[dict[str, Any]], Meta(max_length=limits.RULES)]


class RulesBody(Strict):
    """Rules as the text of a ``rules.toml``, or as its tables."""

    toml: str | None = None
    rules: _Rules | None = None


class PreviewBody(RulesBody):
    """Rules, and whose lists are to be compared: some users, or a sample; ``field`` tells exposure by its values."""

    users: Annotated[list[Id], Meta(max_length=PREVIEWED)] = field(default_factory=list)
    sample: Annotated[int, Meta(ge=1, le=PREVIEWED)] = 200
    field: Annotated[str, Meta(min_length=1, max_length=limits.ID)] | None = None


class RulesParameters(Strict):
    """A former version of the rules, by its name; the present one without."""

    version: Annotated[str, Meta(min_length=1, max_length=255)] | None = None


class RulesAnswer(Struct, kw_only=True):
    """Rules.

    Attributes:
        toml: The text of the file.
        rules: Its tables.
        etag: What changes with it, as in the header ``ETag``; a PUT with ``If-Match`` replaces no other rules.
        versions: Names of former versions, the newest first.
        warnings: What is odd about the rules.
    """

    toml: str
    rules: list[dict[str, Any]]
    etag: str
    versions: list[str]
    warnings: list[str]


class ExposureByValue(Struct, kw_only=True):
    """A value of a field, and the share of all places that items with it have, before and after."""

    value: str
    before: float
    after: float


class NoteOfLists(Struct, kw_only=True):
    """What answers would say, and how many would."""

    note: str
    lists: int


class PreviewAnswer(Struct, kw_only=True):
    """What rules would change.

    Attributes:
        generation: By which the lists are made.
        lists: How they differ from those by the rules of now.
        short: Lists that would be shorter than they are.
        exposure: By the values of the field, those that change most first; at most 20.
        notes: What answers would say of rules that they cannot keep.
        warnings: What is odd about the rules.
        seconds: What it took.
    """

    generation: str
    lists: ListsCompared
    short: int
    exposure: list[ExposureByValue]
    notes: list[NoteOfLists]
    warnings: list[str]
    seconds: float
