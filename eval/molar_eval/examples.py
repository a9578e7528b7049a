"""A few users of a test with what the models showed them: for eyes, not for statistics."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow.parquet as pq

from molar_eval.cases import Cases, Mask, Rows
from molar_eval.ranking import Ranked
from molar_eval.report.schema import ExampleItem, ExampleUser
from molar_retrieval import columns
from molar_retrieval.data.catalogue import ITEMS_FILE, Catalogue

_HISTORY, _LIST = 6, 6


def choose(ours: Ranked, theirs: Ranked | None, cases: Cases, count: int) -> list[int]:
    """Cases worth a look, each of another user: ours right, only ours right, only theirs right, both wrong, in turn."""
    first = cases.offsets[:-1]
    a = _within(ours.ranks[first])
    b = _within(theirs.ranks[first]) if theirs is not None else ~a
    groups = [np.flatnonzero(mask) for mask in (a & ~b, ~a & b, a & b, ~a & ~b)]
    chosen: list[int] = []
    users: set[int] = set()
    for turn in range(max((len(group) for group in groups), default=0)):
        for group in groups:
            if turn < len(group) and len(chosen) < count and int(cases.user[group[turn]]) not in users:
                chosen.append(int(group[turn]))
                users.add(int(cases.user[group[turn]]))
        if len(chosen) == count:
            break
    return chosen


def examples(
    split: str, cases: Cases, chosen: Sequence[int], ranked: Mapping[str, Ranked], catalogue: Catalogue
) -> list[ExampleUser]:
    """The chosen cases with the lists of the models in ``ranked``; people are numbered, their ids are not told."""
    table = pq.read_table(catalogue.version / ITEMS_FILE, columns=[columns.ITEM_ID, columns.TITLE, columns.IMAGE])

    def item(row: int, targets: set[int]) -> ExampleItem:
        item_id, title, photo = (table[name][row].as_py() for name in table.column_names)
        return ExampleItem(item_id=item_id, title=title or item_id, photo=photo, hit=row in targets)

    result = []
    for person, case in enumerate(chosen, 1):
        targets = {int(row) for row in cases.targets[cases.offsets[case] : cases.offsets[case + 1]]}
        history = cases.seen(slice(case, case + 1)).item[-_HISTORY:]
        example = ExampleUser(
            split=split,
            person=person,
            history=[item(int(row), set()) for row in history],
            targets=[item(row, targets) for row in sorted(targets)],
            lists={
                name: [item(int(row), targets) for row in found.items[case, :_LIST] if row >= 0]
                for name, found in ranked.items()
            },
        )
        result.append(example)
    return result


def _within(ranks: Rows) -> Mask:
    hit: Mask = (ranks >= 1) & (ranks <= _LIST)
    return hit
