"""Availability of items: the fields ``active``, ``available_from`` and ``stock``.

Sold out, withdrawn and not yet on sale are facts of the shop, not a matter of taste: whatever is asked, such an item
is no answer. It stays in histories, and in training.
"""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from molar_retrieval.ranking.filters import And, Between, Equals, Expression, Not

ACTIVE, AVAILABLE_FROM, STOCK = "active", "available_from", "stock"
ROLES = (ACTIVE, AVAILABLE_FROM, STOCK)
ALWAYS, NEVER = 0, 2**63 - 1
"""Moments, in microseconds since 1970."""
_YES = (
    "true t yes y on active available ja j wahr aktiv verfügbar lieferbar oui vrai sí si sì はい 有効 販売中 在庫あり"
)
_NO = (
    "false f no n off inactive unavailable discontinued withdrawn none nein falsch inaktiv ausverkauft non faux"
    " いいえ 無効 販売終了 在庫なし 売り切れ"
    " draft archived entwurf archiviert brouillon archivé borrador archivado bozza archiviato concept gearchiveerd"
    " rascunho arquivado szkic zarchiwizowany 下書き アーカイブ 草稿 已归档 임시저장 보관됨"
)
_PHRASES = {"in stock": True, "auf lager": True, "out of stock": False, "sold out": False, "nicht lieferbar": False}
_WORDS = dict.fromkeys(_YES.split(), True) | dict.fromkeys(_NO.split(), False) | _PHRASES
_COUNT = re.compile(r"[<>≥~]?\s*([+-]?\d[\d.,' ]*?)\s*\+?\s*(?:pcs?\.?|units?|stk\.?|stück|個|点)?")
_GROUPS = re.compile(r"(?<=\d)[.,' ](?=\d{3}(?:\D|$))")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Availability:
    """Under which names a catalogue keeps the three fields; one that it does not have has its own name."""

    active: str = ACTIVE
    available_from: str = AVAILABLE_FROM
    stock: str = STOCK

    @property
    def roles(self) -> dict[str, str]:
        """The role of each field, by name."""
        return {self.active: ACTIVE, self.available_from: AVAILABLE_FROM, self.stock: STOCK}

    def shown_from(self, payload: Mapping[str, Any]) -> int:
        """From when an item may be shown, in microseconds since 1970; :data:`ALWAYS`, or :data:`NEVER`.

        What is missing, or no value of its kind, keeps no item out.
        """
        if payload.get(self.active) is False or _is_none_left(payload.get(self.stock)):
            return NEVER
        moment = payload.get(self.available_from)
        return ALWAYS if moment is None else max(ALWAYS, _micros(str(moment)) or ALWAYS)

    def condition(self, fields: Collection[str]) -> Expression | None:
        """The condition of items that are not sold out or withdrawn; None where no field tells."""
        found: list[Expression] = []
        if self.active in fields:
            found.append(Not(Equals(self.active, False)))
        if self.stock in fields:
            found += [Not(Equals(self.stock, False)), Not(Between(self.stock, lte=0))]
        return And(tuple(found)) if found else None


def understood(role: str, value: Any) -> Any:
    """One value of a role as the payload has it: a truth, a number, a time; None where it is not understood."""
    if not isinstance(value, str):
        numeric = isinstance(value, int | float) and math.isfinite(value)
        return None if not numeric or role == AVAILABLE_FROM else bool(value) if role == ACTIVE else value
    if role == AVAILABLE_FROM:
        micros = _micros(value.strip())
        return None if micros is None else iso(micros)
    folded = " ".join(value.split()).casefold()
    known = _WORDS.get(folded)
    if known is None and (counted := _COUNT.fullmatch(folded)) is not None:
        try:
            number = float(_GROUPS.sub("", counted[1]).replace(",", "."))
        except ValueError:
            return None
        return number if role == STOCK else bool(number)
    return known if known is None or role == ACTIVE else float(known)


def iso(micros: int) -> str:
    """A moment as the payload has it."""
    moment = datetime.fromtimestamp(micros // 1_000_000, UTC)
    return moment.replace(microsecond=micros % 1_000_000, tzinfo=None).isoformat() + "Z"


def moment(of: datetime | None = None) -> int:
    """The present moment, or another one, in microseconds since 1970."""
    return round(((of or datetime.now(UTC)) - _EPOCH).total_seconds() * 1_000_000)


def _is_none_left(stock: Any) -> bool:
    return isinstance(stock, int | float) and stock <= 0


def _micros(text: str) -> int | None:
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment(told if told.tzinfo else told.replace(tzinfo=UTC))
