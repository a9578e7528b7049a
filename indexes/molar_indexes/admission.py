"""Which items may come: conditions are read, ids looked up, and the shop's rules added."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molar_indexes.generations import Generation
from molar_indexes.options import Asked, Limits, both
from molar_retrieval import columns
from molar_retrieval.errors import RequestError, nearest
from molar_retrieval.expressions import OneOf
from molar_retrieval.workspace import Workspace

if TYPE_CHECKING:
    from molar_retrieval.ids import IdMap
    from molar_retrieval.ranking.rules import Rules


class Admission:
    """Reads limits for one generation.

    Args:
        workspace: Whose catalogue knows the ids that an unknown one may have meant.
        generation: Has the items.
        rules: A file of rules, see :mod:`molar_retrieval.ranking.rules`; None: no rules.
    """

    def __init__(self, workspace: Workspace, generation: Generation, rules: Path | None) -> None:
        self._workspace, self._generation, self._file = workspace, generation, rules
        self._banned: dict[frozenset[str], frozenset[int]] = {}

    @property
    def fields(self) -> dict[str, str]:
        """What a condition may name, and its kind."""
        return {columns.ITEM_ID: "keyword", **self._generation.index.spec.fields}

    @cached_property
    def rules(self) -> "Rules | None":
        """The shop's rules.

        Raises:
            SettingsError: If the file is wrong.
        """
        if self._file is None:
            return None
        from molar_retrieval.ranking.rules import Rules

        return Rules.load(self._file, self.fields, self._generation.manifest.facts.get("segments", {}))

    def asked(self, limits: Limits) -> Asked:
        """What somebody asks for, without the rules.

        Raises:
            RequestError: If the condition is not understood or ``only`` names an unknown item.
        """
        where = limits.get("where")
        if isinstance(where, str):
            from molar_retrieval.filter_language import parse  # loads a parser, which most queries do without

            where = parse(where, self.fields)
        only = limits.get("only")
        if only is not None:
            self.rows(list(only))
            where = both(where, OneOf(columns.ITEM_ID, tuple(only)))
        return Asked(where, self._known(limits.get("exclude", ())), filtered=where is not None)

    def ruled(self, asked: Asked, given: Limits, attributes: Mapping[str, Any]) -> Asked:
        """With the limits of the shop's rules for somebody.

        Args:
            asked: Without them.
            given: Says whether the rules hold.
            attributes: Of whom the list is for; they decide which rules hold.

        Raises:
            SettingsError: If the rules are wrong.
        """
        if self._file is None or not given.get("rules", True):
            return asked
        from molar_retrieval.ranking.rules import limits

        assert self.rules is not None
        active = self.rules.for_user(attributes)
        found = limits(active)
        where = asked.where if found.where is None else both(asked.where, found.where)
        if found.banned not in self._banned:
            self._banned[found.banned] = self._known(found.banned)
        return replace(asked, where=where, hidden=asked.hidden | self._banned[found.banned], rules=tuple(active))

    def rows(self, item_ids: Sequence[str]) -> list[int]:
        """Rows of items that must be there.

        Raises:
            RequestError: If one is not.
        """
        rows = self._generation.index.rows(item_ids)
        for item_id, row in zip(item_ids, rows, strict=True):
            if row is None:
                raise RequestError(f"the item {item_id!r} is unknown", self._nearest(item_id))
        return [row for row in rows if row is not None]

    def _known(self, item_ids: Collection[str]) -> frozenset[int]:
        rows = self._generation.index.rows(list(item_ids)) if item_ids else []
        return frozenset(row for row in rows if row is not None)

    def _nearest(self, item_id: str) -> str:
        from molar_retrieval.catalog import Catalogue

        folder = self._workspace["catalogue"].current
        known: IdMap | None = None if folder is None else Catalogue.open(folder).ids
        close = nearest(item_id, known.array.to_pylist()) if known is not None else []
        return f"did you mean {', '.join(map(repr, close))}?" if close else "name an item of the catalogue"
