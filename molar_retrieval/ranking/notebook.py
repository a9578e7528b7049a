"""An answer in a notebook: photos, the addends of each score as bars, reasons."""

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from molar_retrieval.ranking.answer import Answer, Recommendation

_SIDE = 72
_BAR = 120
_COLOURS = ("#3b6ea5", "#d08a2e", "#5b9a68", "#a3527f", "#7a6bb0", "#8c8c8c", "#c05a4a")


def table(answer: "Answer") -> str:
    """The answer as an HTML table, without scripts and without anything from elsewhere."""
    names = list(dict.fromkeys(name for item in answer.items for name in item.parts))
    colours = {name: _COLOURS[n % len(_COLOURS)] for n, name in enumerate(names)}
    widest = max((sum(map(abs, item.parts.values())) for item in answer.items), default=1.0) or 1.0
    rows = "".join(_row(item, colours, widest, answer.photo_of(item.item_id)) for item in answer.items)
    legend = " ".join(f"<span style='color:{colour}'>■</span> {escape(name)}" for name, colour in colours.items())
    notes = "".join(f"<p><small>{escape(note)}</small></p>" for note in [*answer.notes, answer.shortfall] if note)
    whom = f"for {escape(answer.user_id)}" if answer.user_id is not None else f"by {escape(answer.basis)}"
    return (
        f"<table><caption>{len(answer.items)} items {whom} &nbsp; <small>{legend}</small></caption>"
        f"<thead><tr><th>#</th><th></th><th>item</th><th>score</th><th>why</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>{notes}"
    )


def _row(item: "Recommendation", colours: dict[str, str], widest: float, photo: Path | None) -> str:
    bars = "".join(
        f"<span title='{escape(name)} {value:.3f}' style='display:inline-block;height:10px;"
        f"width:{_BAR * abs(value) / widest:.1f}px;background:{colours[name]};"
        f"opacity:{1 if value >= 0 else 0.4}'></span>"
        for name, value in item.parts.items()
    )
    why = "<br>".join(escape(reason) for reason in item.reasons) or escape(item.rule or "")
    title = escape(item.title or "")
    return (
        f"<tr><td>{item.rank}</td><td>{_picture(photo)}</td>"
        f"<td style='text-align:left'>{title}<br><small>{escape(item.item_id)}</small></td>"
        f"<td style='text-align:left;white-space:nowrap'>{item.score:.3f}<br>{bars}</td>"
        f"<td style='text-align:left'>{why}</td></tr>"
    )


def _picture(photo: Path | None) -> str:
    """A small copy inside of the page; nothing where the photo cannot be read."""
    if photo is None:
        return ""
    from molar_retrieval.pages.pictures import photo_uri

    uri = photo_uri(photo.parent, photo.name, (2 * _SIDE, 2 * _SIDE), 80)
    return f"<img alt='' style='max-width:{_SIDE}px;max-height:{_SIDE}px' src='{uri}'>" if uri else ""
