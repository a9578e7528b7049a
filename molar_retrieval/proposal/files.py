"""Which of somebody's tables has the items, which the purchases, which the users."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from pathlib import Path

from molar_retrieval.catalog.sources import FORMATS, Stem
from molar_retrieval.errors import SettingsError
from molar_retrieval.proposal.columns import contained, item_pairs, timestamps
from molar_retrieval.proposal.questions import Ask, Question
from molar_retrieval.proposal.tables import SampledTable
from molar_retrieval.proposal.vocabulary import name_score, told_by_file

STEMS: tuple[Stem, ...] = ("items", "interactions", "users")
_LEAD = 0.4  # by how much the best reading of all files must be ahead of the next one
_NAMES: Mapping[Stem, Mapping[str, float]] = {
    "items": {
        "item_id": 1,
        "title": 1,
        "description": 1,
        "image": 0.5,
        "other": 0.5,
        "stock": 0.5,
        "user_id": -1,
        "order": -1,
    },
    "interactions": {"item_id": 0.5, "user_id": 1, "timestamp": 1, "order": 0.7, "quantity": 0.5, "description": -0.5},
    "users": {"user_id": 1, "item_id": -1, "quantity": -0.5, "title": -0.3, "order": -0.7},
}
"""What a table is likely, or not, to have a column for."""


def tables_of(named: Sequence[Path]) -> list[Path]:
    """The files that are meant: those named, and of a folder the tables in it; a SettingsError if they are too many."""
    found: list[Path] = []
    for path in named:
        inside = sorted(file for file in path.iterdir() if file.suffix.lower() in FORMATS) if path.is_dir() else [path]
        found += [file for file in inside if file not in found]
    if not found:
        raise SettingsError("no table was named", "name them: `molar init orders.csv products.csv`")
    if len(found) > len(STEMS):
        listed = ", ".join(path.name for path in found[:6])
        hint = "name one file with the items, one with the purchases and, if you have it, one with the users"
        raise SettingsError(f"these are {len(found)} tables: {listed}", hint)
    return found


def assigned(tables: Sequence[SampledTable], said: Mapping[Stem, Path], ask: Ask) -> dict[Stem, SampledTable]:
    """Each table by what it has; a SettingsError, or a question, where they do not tell."""
    readings = sorted(
        ((_score(reading), place, reading) for place, reading in enumerate(_readings(tables, said))),
        key=lambda one: (-one[0], one[1]),
    )
    if not readings:
        raise SettingsError("the tables that were named leave none for the items", "name it: --items FILE")
    best, rest = readings[0], [one for one in readings[1:] if one[2]["items"] is not readings[0][2]["items"]]
    if len(tables) == 1 and "items" not in said and _kind(tables[0], "interactions") > _kind(tables[0], "items"):
        words = f"{tables[0].path.name} looks like a log of purchases, and nothing tells what its items are"
        hint = "name the file with the items, too; if this is it: --items " + str(tables[0].path)
        raise SettingsError(words, hint)
    if rest and best[0] - rest[0][0] < _LEAD:
        answers = {str(table.path): f"{table.path.name}: {', '.join(table.names[:6])}" for table in tables}
        chosen = ask(Question("Which file has the items, one a row?", answers, "--items {}"))
        return next(reading for _, _, reading in readings if str(reading["items"].path) == chosen)
    return best[2]


def _readings(tables: Sequence[SampledTable], said: Mapping[Stem, Path]) -> Iterator[dict[Stem, SampledTable]]:
    """All ways to say which table is what, as far as nobody said it."""
    fixed: dict[Stem, SampledTable] = {
        stem: next(table for table in tables if table.path == path) for stem, path in said.items()
    }
    left = [table for table in tables if table not in fixed.values()]
    for free in permutations([stem for stem in STEMS if stem not in fixed], len(left)):
        reading: dict[Stem, SampledTable] = fixed | dict(zip(free, left, strict=True))
        if "items" in reading and (len(tables) == 1 or "interactions" in reading):
            yield reading


def _score(reading: Mapping[Stem, SampledTable]) -> float:
    score = sum(_kind(table, stem) for stem, table in reading.items())
    items, log, users = (reading.get(stem) for stem in STEMS)
    if items is not None and log is not None and (pairs := item_pairs(items, log)):
        score += pairs[0][0].score + pairs[0][1].score
    if users is not None and log is not None:
        score += max(
            (
                contained(own, key) + name_score(own.name, "user_id")
                for own in log.columns
                for key in users.columns
                if own.times is None and key.unique > 0.9
            ),
            default=0.0,
        )
    return score


def _kind(table: SampledTable, stem: Stem) -> float:
    """How much a table by itself looks like the one of a kind."""
    score = sum(weight * max(name_score(name, role) for name in table.names) for role, weight in _NAMES[stem].items())
    timed = bool(timestamps(table, ()))
    rest = {"items": -0.5 * timed, "interactions": 1.0 if timed else -0.5, "users": 0.0}
    longest = max((column.length for column in table.columns if column.words > 0.5), default=0.0)
    rest["items"] += 0.5 * (longest > 30)
    return score + rest[stem] + told_by_file(table.path.stem, stem)
