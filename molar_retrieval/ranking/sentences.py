"""Reasons in words: evidence put into one short sentence, in a language's templates.

Templates are TOML; ``reasons.toml`` beside the workspace replaces some of them, or adds languages::

    [de]
    together = "Oft zusammen mit {items} gekauft."

What it leaves out is said as molar says it in that language, else in English.
"""

import string
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Self

from molar_retrieval.errors import RequestError, SettingsError, shown, suggestion
from molar_retrieval.experts.habits import HABITS
from molar_retrieval.ranking.evidence import Evidence, TakenBefore
from molar_retrieval.workspace.config_files import read_toml

FILE_NAME = "reasons.toml"
_NAMING = ("together", "photo", "text", "attributes", "alike")
_FIELDS = {
    "quote": {""},
    "shared": {"values"},
    "rule": {"rule"},
    "again": {"times", "days"},
    "daily": {"times"},
    **{name: {"items"} for name in _NAMING},
}
"""Gaps of the templates that have any."""
_TEMPLATE = {"image": "photo", "text": "text", "words": "text", "attributes": "attributes"}
"""What is said of a source that is named alone."""
_CLEAR = 0.6  # share of the content score from which a source is named alone
_NAMED = 2
_SHARED = 3
_LONG = 40  # longer values are texts, not attributes


class Speaker:
    """Says why, in one language, by templates named as those of ``reasons/en.toml``; ``source`` is for messages.

    Raises:
        SettingsError: If a template is missing, unknown, or has another gap than the English one.
    """

    def __init__(self, templates: Mapping[str, str], source: str) -> None:
        wanted = _packaged("en")
        for name, template in templates.items():
            if name not in wanted:
                raise SettingsError(f"{source}: unknown template {name!r}", suggestion(name, wanted, "remove it"))
            _check(name, template, source)
        if missing := [name for name in wanted if name not in templates]:
            raise SettingsError(f"{source}: the template {missing[0]!r} is missing", "say it in this language too")
        self._templates = templates

    @classmethod
    def of(cls, language: str, overrides: Path | None = None) -> Self:
        """The templates of a language, with those of a file in their place; English ones where neither has one.

        Raises:
            RequestError: If the language is unknown.
            SettingsError: If the file has a mistake.
        """
        given: dict[str, Any] = {}
        if overrides is not None and overrides.exists():
            try:
                given = read_toml(overrides)
            except OSError as error:
                raise SettingsError(f"{overrides} cannot be read: {error}", "make it a readable file") from error
        own = given.get(language, {})
        if not isinstance(own, dict):
            raise SettingsError(f"{overrides}: {language!r} is no table", f"write [{language}]")
        known = [*languages(), *given]
        if language not in known:
            raise RequestError(
                f"reasons can not be given in {shown(language)}",
                suggestion(language, known, f"known are {', '.join(dict.fromkeys(known))}; {FILE_NAME} adds others"),
            )
        source = f"{overrides}: [{language}]" if own else f"reasons in {language}"
        return cls({**_packaged("en"), **_packaged(language), **own}, source)

    def say(
        self,
        evidence: Evidence,
        parts: Mapping[str, float],
        titles: Mapping[int, str],
        shared: Sequence[str],
        causes: Sequence[str] = (),
    ) -> str:
        """The reason for one item by its evidence, the addends of its score and what it shares with the items named.

        ``titles`` are of the items of the history that the evidence names, by row; causes are those of
        :class:`molar_retrieval.ranking.request.Placed`.
        """
        told = [self._templates["newcomer"]] if "newcomer" in parts else []
        told.append(self._main(evidence, parts, titles))
        if shared and (evidence.together or evidence.alike):
            told.append(self._templates["shared"].format(values=", ".join(shared[:_SHARED])))
        told += [
            self._templates[c] if c in ("diversity", "calibration") else self._templates["rule"].format(rule=c)
            for c in causes
        ]
        return " ".join(told)

    def _main(self, evidence: Evidence, parts: Mapping[str, float], titles: Mapping[int, str]) -> str:
        together = sum(amount for _, amount in evidence.together)
        alike = sum(amount for _, amount in evidence.alike)
        if evidence.taken is not None and parts.get(HABITS, 0.0) > max(together, alike):
            return self._habit(evidence.taken)
        if together > 0 and together >= alike:
            return self._named("together", evidence.together, titles)
        if alike > 0:
            return self._named(named_source(evidence.sources) or "alike", evidence.alike, titles)
        if any(parts.get(name, 0.0) > 0 for name in ("collaborative", "content", "neighbours")):
            return self._templates["taste"]
        return self._templates["trend" if parts.get("trend", 0.0) > 0 else "chosen"]

    def _habit(self, taken: TakenBefore) -> str:
        if taken.days is None:
            return self._templates["before"]
        days = round(taken.days)
        return self._templates["again" if days > 1 else "daily"].format(times=taken.times, days=days)

    def _named(self, template: str, items: Sequence[tuple[int, float]], titles: Mapping[int, str]) -> str:
        quoted = [self._templates["quote"].format(titles[row]) for row, _ in items[:_NAMED]]
        return self._templates[template].format(items=self._templates["joint"].join(quoted))


def languages() -> list[str]:
    """Languages that come with molar."""
    return sorted(file.name.removesuffix(".toml") for file in _folder().iterdir() if file.name.endswith(".toml"))


def traits(
    payload: Mapping[str, Any], fields: Sequence[str], ordinary: Mapping[str, Sequence[str]]
) -> dict[tuple[str, str], None]:
    """An item's values of some fields, in their order, without the ``ordinary`` ones that are not worth telling."""
    found: dict[tuple[str, str], None] = {}
    for name in fields:
        value = payload.get(name)
        for word in value if isinstance(value, list) else (value,):
            if isinstance(word, str) and 0 < len(word) <= _LONG and word not in ordinary.get(name, ()):
                found[name, word] = None
    return found


def named_source(sources: Mapping[str, float]) -> str | None:
    """The template of the source that has most of the likeness, so that it is named alone; None: there is no such."""
    total, amounts = 0.0, dict.fromkeys(_TEMPLATE.values(), 0.0)
    for name, amount in sources.items():
        total += max(0.0, amount)
        if name in _TEMPLATE:
            amounts[_TEMPLATE[name]] += max(0.0, amount)
    return next((name for name, amount in amounts.items() if total > 0 and amount >= _CLEAR * total), None)


def _folder() -> Any:
    return resources.files("molar_retrieval.ranking") / "reasons"


def _packaged(language: str) -> dict[str, str]:
    file = _folder() / f"{language}.toml"
    return tomllib.loads(file.read_text("utf-8")) if language in languages() else {}


def _check(name: str, template: Any, source: str) -> None:
    try:
        parsed = [part[1:] for part in string.Formatter().parse(template) if part[1] is not None]
        gaps = {gap for gap, _, _ in parsed}
        if gaps == _FIELDS.get(name, set()) and not any(spec or conversion for _, spec, conversion in parsed):
            template.format("", **dict.fromkeys(gaps - {""}, ""))
            return
    except (TypeError, ValueError, IndexError) as error:
        raise SettingsError(f"{source}: the template {name!r} cannot be read: {error}", "double lone braces") from error
    wanted = ", ".join(f"{{{gap}}}" for gap in sorted(_FIELDS.get(name, set()))) or "no gap"
    raise SettingsError(f"{source}: the template {name!r} has other gaps than {wanted}", f"use {wanted}")
