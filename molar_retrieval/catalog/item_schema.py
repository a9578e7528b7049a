"""What may be said of an item: the attributes of a prepared catalogue, for changes that come one by one.

Preparing a catalogue leaves out what it cannot use of an event and names it; who is there to be asked is told at once.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from molar_retrieval.availability import ACTIVE, ROLES
from molar_retrieval.catalog.catalogue import Catalogue
from molar_retrieval.catalog.fields import PayloadFields
from molar_retrieval.columns import DESCRIPTION, IMAGE, ITEM_ID, TITLE
from molar_retrieval.errors import shown, suggestion

_LARGEST = 2**53  # of a whole number: beyond, the next one is no number of its own
_FOREIGN = ("http:", "https:", "data:", "ftp:", "file:")
_WANTED = {
    "keyword": "a text",
    "integer": "a number",
    "float": "a number",
    "bool": "true or false",
    "available_from": "a time as ISO 8601",
    "stock": "a number of pieces",
}


class AttributeMistake(NamedTuple):
    """What is wrong with an attribute, and what to do."""

    name: str
    problem: str
    remedy: str


@dataclass(frozen=True)
class ItemSchema:
    """The attributes of a catalogue.

    Attributes:
        names: All that an item may have, by the names of the items file, and the roles that stand for some of them.
        fields: Those that are kept for filters and display.
        words: Those that enter vectors, so that a change of them acts with the next update.
        whole: Those that an item that is given whole has, or has not.
        roles: What columns of words stand for, by column.
        item_id: The column of the id.
    """

    names: frozenset[str]
    fields: PayloadFields
    words: frozenset[str]
    whole: tuple[str, ...]
    roles: Mapping[str, str]
    item_id: str

    @classmethod
    def of(cls, catalogue: Catalogue) -> Self:
        """Of a prepared catalogue."""
        items, kinds = catalogue.manifest.settings["items"], catalogue.fields
        texts = {role: items[role] for role in (TITLE, DESCRIPTION) if items[role] is not None}
        photo = {IMAGE, items[IMAGE]} if items[IMAGE] is not None else set()
        return cls(
            names=frozenset({*items["payload"], *texts, *texts.values(), *photo, *ROLES}),
            fields=PayloadFields.of(kinds, catalogue.described, catalogue.availability),
            words=frozenset({*catalogue.attributes, *texts, *texts.values(), *photo}),
            whole=(*items["payload"], *texts),
            roles={column: role for role, column in texts.items()},
            item_id=items[ITEM_ID],
        )

    @property
    def has_active(self) -> bool:
        """Whether a column of the catalogue says that an item is withdrawn."""
        return self.fields.availability.active in self.fields.kinds

    def missing(self, attributes: Mapping[str, Any]) -> list[str]:
        """What an item that is given whole has not, by these attributes; photos stay."""
        given = {self._meant(name) for name in attributes}
        return [name for name in self.whole if self._meant(name) not in given]

    def _meant(self, name: str) -> str:
        return self.fields.field(name) or self.roles.get(name, name)

    def mistakes(self, attributes: Mapping[str, Any]) -> list[AttributeMistake]:
        """What is wrong with attributes of an item; the id may be among them."""
        given = {name: value for name, value in attributes.items() if name not in (ITEM_ID, self.item_id)}
        return [found for name, value in given.items() if (found := self._mistake(name, value)) is not None]

    def _mistake(self, name: str, value: Any) -> AttributeMistake | None:
        if name not in self.names:
            remedy = suggestion(name, sorted(self.names), f"known are {', '.join(sorted(self.names))}")
            if name == IMAGE:
                remedy = (
                    "put the photo into the folder images/ of the catalogue, as ITEM_ID.jpg, or PUT /v1/photos/ITEM_ID"
                )
            return AttributeMistake(name, f"the catalogue has no attribute {shown(name)}", remedy)
        if (
            name in self.words
            and isinstance(value, str)
            and value.lower().startswith(_FOREIGN)
            and self._is_photo(name)
        ):
            remedy = "put the photo into the catalogue's folder, and name its path there, or PUT /v1/photos/ITEM_ID"
            return AttributeMistake(name, "a photo is not fetched from an address", remedy)
        numbers = [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, int)]
        if any(abs(number) > _LARGEST for number in numbers):
            return AttributeMistake(name, f"{name} = {shown(value)} is too large", f"give at most {_LARGEST:,}")
        if value is None or value == "" or self._fits(name, value):
            return None
        role = self.fields.availability.roles.get(name, name)
        wanted = _WANTED.get(role, _WANTED[self.fields.kinds.get(name, "bool" if role == ACTIVE else "keyword")])
        return AttributeMistake(name, f"{name} = {shown(value)} is not taken", f"give {wanted}")

    def _is_photo(self, name: str) -> bool:
        return name not in self.whole and name not in (TITLE, DESCRIPTION)

    def _fits(self, name: str, value: Any) -> bool:
        """Whether a field can hold a value; what is no field is words, one text or several."""
        if self.fields.field(name) is not None:
            return bool(self.fields.changed("item_upsert", json.dumps({name: value})))
        values = value if isinstance(value, list) else [value]
        return not any(isinstance(one, list | dict) for one in values)
