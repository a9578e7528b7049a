"""`molar experiment`; what runs is in :mod:`molar_cli.commands.experiment_stages`."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from molar_cli.commands.experiment_stages import COMMANDS
from molar_cli.options import option
from molar_cli.session import Session, command
from molar_retrieval.errors import SettingsError

if TYPE_CHECKING:
    from molar_eval.experiments.planning import ExperimentPlan, WindowPlan

app = typer.Typer(
    help="Experiments with people: planned, begun, brought from stage to stage, written out.", no_args_is_help=True
)
_ABREAST = 3  # effects beside each other, which 80 columns have room for
_MILLION = 1_000_000
_MEAN = {"conversion": "buy", "revenue": "spend"}
_WHO = {
    "buyers": "who bought in the weeks before (at most {before}); the log does not know who only looks",
    "visitors": "who came, by the event log",
}


@app.command()
@command()
def plan(
    run: Session,
    catalog: Annotated[
        Path | None,
        typer.Argument(help="Folder of the catalogue; default: that of the workspace.", show_default=False),
    ] = None,
    who: Annotated[
        Literal["buyers", "visitors"] | None,
        option("Who is in it; default: visitors where the event log knows them for 4 weeks, else buyers."),
    ] = None,
    share: Annotated[float, typer.Option(metavar="0…1", help="Which share of them is in the experiment.")] = 1.0,
    treated: Annotated[float, typer.Option(metavar="0…1", help="Which share of these is in the new arm.")] = 0.5,
    power: Annotated[float, typer.Option(metavar="0…1", help="Chance to see an effect that is there.")] = 0.8,
    alpha: Annotated[float, typer.Option(metavar="0…1", help="Chance of a false alarm, both sides.")] = 0.05,
    weeks: Annotated[str, typer.Option(metavar="N,N", help="Lengths to look at, in weeks.")] = "1,2,4,8,12",
    effects: Annotated[str, typer.Option(metavar="N,N", help="Effects to look at, in per cent.")] = "5,10,20",
) -> None:
    """Say how many people and weeks it takes to see an effect, by the shop's own log; nothing is written.

    Example: [bold]molar experiment plan[/]

    Example: [bold]molar experiment plan catalog/ --share 0.5 --effects 3,5,10[/]
    """
    from molar_eval.experiments.planning import remedies, verdicts

    found = run.shop(catalog).experiments.plan(
        who=who,
        share=share,
        treated=treated,
        power=power,
        alpha=alpha,
        weeks=[int(one) for one in _numbers("--weeks", weeks, whole=True)],
        lifts=[one / 100 for one in _numbers("--effects", effects)],
    )
    said = {"verdicts": verdicts(found), "helps": remedies(found)}
    if run.document(found.to_dict() | said):
        return
    _print(run, found)
    run.console.line("", *said["verdicts"], "", "What helps:", *(f"- {one}" for one in said["helps"]))
    run.console.note(*(f"note: {one}" for one in found.notes))


def _numbers(name: str, text: str, *, whole: bool = False) -> list[float]:
    try:
        return [float(int(one) if whole else float(one)) for one in text.split(",") if one.strip()]
    except ValueError as error:
        raise SettingsError(f"{name} is {text!r}", "give numbers with commas, as 4,8,12") from error


def _print(run: Session, plan: "ExperimentPlan") -> None:
    from molar_eval.experiments.planning import per_arm, percent, weeks_in_words

    last = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=plan.until - 1)).date()
    part = "All" if plan.share == 1 else percent(plan.share)
    run.console.line(
        f"People: {_WHO[plan.who].format(before=plan.before)}. The log ends on {last}.",
        f"{part} of them take part, {percent(plan.treated)} of these in the new arm; power {percent(plan.power)}, "
        f"false alarms {percent(plan.alpha)}, a look after each week.",
    )
    for metric, windows in plan.metrics.items():
        run.console.line("")
        title = f"{metric.capitalize()}: people {per_arm(plan)}, without / with CUPED; * where so many come"
        lifts = [need.lift for need in windows[0].needed]
        for first in range(0, len(lifts), _ABREAST):
            some = slice(first, first + _ABREAST)
            columns = (">weeks", ">come", f">{_MEAN[metric]}", *(f">+{percent(lift)}" for lift in lifts[some]))
            run.console.table(columns, [_row(metric, window, some) for window in windows], title=title)
            title = ""
    if plan.too_long:
        run.console.line("", f"The log is too short for {', '.join(map(weeks_in_words, plan.too_long))}.")


def _row(metric: str, window: "WindowPlan", some: slice) -> Sequence[str]:
    from molar_eval.experiments.planning import percent

    money = f"{window.mean:,.0f}" if window.mean >= 100 else f"{window.mean:.3g}"
    mean = percent(window.mean) if metric == "conversion" else money
    needed = [
        f"{_count(need.plain, need.seen)} / {_count(need.cuped, need.seen_with_cuped)}" for need in window.needed[some]
    ]
    return str(window.weeks), f"{window.arm:,}", mean, *needed


def _count(people: int | None, seen: bool) -> str:
    if people is None:
        return "–"
    return f"{people:,}{'*' if seen else ''}" if people < _MILLION else f"{people / _MILLION:,.1f} M"


for _body in COMMANDS:
    app.command()(_body)
