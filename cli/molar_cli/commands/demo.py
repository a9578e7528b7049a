"""`molar demo`."""

import os
import shutil
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molar_cli.commands.align import print_aligned
from molar_cli.commands.embed import print_embedded
from molar_cli.commands.query import print_answer
from molar_cli.options import option
from molar_cli.session import Session, command
from molar_retrieval.errors import SettingsError
from molar_retrieval.reports import wording as words
from molar_retrieval.workspace.discovery import is_workspace

if TYPE_CHECKING:
    from molar.introduction import IntroductionReport, StagePlayed
    from molar.planted import EstimateBesideTruth
    from molar.sources import Demo


_INTRODUCTION = 60  # days that a whole introduction takes
_FACTS = ("seed", "items", "users", "interactions", "example_user", "new_user")


@command("workspace", "settings")
def demo(
    run: Session,
    folder: Annotated[Path, typer.Argument(help="Where the demo goes; made where it does not exist.")] = Path(
        "molar-demo"
    ),
    seed: Annotated[int, typer.Option(help="Another seed makes another shop.")] = 7,
    items: Annotated[int, typer.Option(help="How many items it has.")] = 400,
    users: Annotated[int, typer.Option(help="How many users it has.")] = 800,
    days: Annotated[int | None, option("Let it live for so many days, and write days.html.", metavar="DAYS")] = None,
    experiment: Annotated[
        bool, option("In 60 days, or so many, introduce other lists by stages.", "--experiment")
    ] = False,
    harmful: Annotated[bool, option("In an experiment, try what does harm, to see it go back.", "--harmful")] = False,
    serve: Annotated[bool, option("Open it in the browser, with visitors.", "--serve")] = False,
    minutes: Annotated[float, typer.Option(min=0, max=60, help="How long the visitors stay.")] = 10,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0: any that is free.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser where there is one.")] = True,
) -> None:
    """Write a small made-up shop and run embed, align and query on it; let it live for some days, or open it.

    An open shop has a page for this machine's browser, where simulated visitors look, click and buy, and lists change
    as they do. Ctrl-C closes it.

    Example: [bold]molar demo[/]

    Example: [bold]molar demo larger --items 1000 --users 5000[/]

    Example: [bold]molar demo a-fortnight --days 14[/]

    Example: [bold]molar demo an-introduction --days 60 --experiment[/]

    Example: [bold]molar demo --serve[/]
    """
    from molar import demo as write_demo

    _check(run, days, serve=serve, experiment=experiment, harmful=harmful)
    if experiment and days is None:
        days = _INTRODUCTION
    arriving, display = days is not None, run.console.progress
    made = write_demo(folder, items=items, users=users, seed=seed, arriving=arriving, display=display)
    if run.console.as_json:
        _document(run, made, days, experiment=experiment, harmful=harmful)
        return
    shop, facts = made.shop, made.facts
    run.console.line(
        f"A made-up shop in {facts.folder}: {facts.items} items, {facts.users} users,"
        f" {facts.interactions:,} interactions."
    )
    if serve and is_workspace(shop.workspace) and shop.generations():
        run.console.line("\n$ molar update")
        run.console.line(shop.update().summary)
    else:
        run.console.line(f"\n$ molar embed {facts.folder}")
        print_embedded(run, shop.embed())
        run.console.line("\n$ molar align")
        print_aligned(run, shop.align())
    if serve:
        _open(run, made, minutes, port, browser)
        return
    run.console.line(f"\n$ molar query --user {facts.example_user} -k 5")
    print_answer(run, shop.query(facts.example_user, k=5))
    run.console.line(f"\n$ molar query --user {facts.new_user} -k 5")
    print_answer(run, shop.query(facts.new_user, k=5))
    run.console.note(f"no history is known of {facts.new_user}, so these are the most popular items")
    if experiment and days is not None:
        _introduce(run, made, days, folder, harmful=harmful)
    elif days is not None:
        _live(run, made, days, folder)
    program = "molar" if shutil.which("molar") else sys.argv[0]
    run.console.line(f"\nTry it yourself: {program} query --user {facts.example_user} --workspace {shop.workspace}")


def _check(run: Session, days: int | None, *, serve: bool, experiment: bool, harmful: bool) -> None:
    """Refuse options that do not go together."""
    if serve and (days is not None or experiment):
        raise SettingsError("--days and --serve each let the shop live, in another way", "leave one out")
    if serve and run.console.as_json:
        raise SettingsError("an open shop has no document to write", "leave out --json or --serve")
    if harmful and not experiment:
        raise SettingsError("--harmful is of an experiment, and none is asked for", "add --experiment")


def _document(run: Session, made: "Demo", days: int | None, *, experiment: bool, harmful: bool) -> None:
    """Do everything, and write what came of it for programs."""
    shop = made.shop
    shop.embed()
    shop.align()
    told: dict[str, object] = {name: getattr(made.facts, name) for name in _FACTS} | {"folder": str(made.facts.folder)}
    if experiment and days is not None:
        told["experiment"] = made.introduce(days, harmful=harmful).to_dict()
    elif days is not None:
        told |= made.live(days).to_dict()
    run.document(told)


def _open(run: Session, made: "Demo", minutes: float, port: int, browser: bool) -> None:
    """Open the shop to the browser of this machine, until Ctrl-C."""
    from molar_serving.storefront.app import open_shop

    def listening(address: str) -> None:
        run.console.line(f"\nThe shop is open at {address}; visitors stay for {minutes:g} minutes, Ctrl-C closes it.")

    def ready(address: str) -> None:
        if browser and _has_screen():
            webbrowser.open(address)

    open_shop(made, listening, ready, minutes=minutes, port=port)


def _has_screen() -> bool:
    """Whether a browser can be seen; without a screen, one that runs in this terminal would be opened."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _live(run: Session, made: "Demo", days: int, folder: Path) -> None:
    """Let the shop live, and print what each day was like."""
    run.console.line(f"\n{words.plural(days, 'day')}: events every five minutes, molar update every night")
    report = made.live(days)
    columns = (">day", ">visits", ">bought", ">known", ">churn", ">new, shown", ">new, items", ">NDCG@10", ">update")
    rows = [
        [
            day.day,
            day.visits,
            day.purchases,
            words.NONE if day.visible is None else words.percent(day.visible),
            words.NONE if day.churn is None else f"{day.churn:.1f}",
            words.percent(day.arrived, 1),
            words.percent(day.arrived_items, 1),
            words.fraction(day.ndcg),
            words.duration(day.update),
        ]
        for day in report.days
    ]
    run.console.table(columns, rows)
    run.console.line(f"page: {report.write_page(folder / 'days.html')}")


def _introduce(run: Session, made: "Demo", days: int, folder: Path, *, harmful: bool) -> None:
    """Introduce other lists by stages, and print how that went."""
    run.console.line(f"\n{words.plural(days, 'day')}: other lists are introduced by stages")
    report = made.introduce(days, harmful=harmful)
    print_introduction(run, report)
    run.console.line(f"\npage: {report.write_page(folder / 'experiment.html')}")


def print_introduction(run: Session, report: "IntroductionReport") -> None:
    """Print the stages, why each ended, and estimates beside the truth."""
    run.console.line(
        f"{report.name}: {report.people:,} people, {report.visitors:,} of them anonymous;"
        f" {words.duration(report.seconds)} of processor time"
    )
    rows = [
        [one.stage, f"{one.first}–{one.last}", words.count(one.visits), words.count(one.people), _ended(one)]
        for one in report.stages
    ]
    run.console.table(("stage", ">days", ">visits", ">people", "ended"), rows)
    for stage in report.stages:
        if stage.why:
            run.console.line(f"{stage.stage}, evening of day {stage.last}: {stage.why}")
    last = report.record[-1]
    run.console.line(f"after {words.plural(report.days, 'day')}: {last.stage}; {last.why}")
    for stage in report.stages:
        if stage.estimates:
            _print_estimates(run, stage)


def _ended(stage: "StagePlayed") -> str:
    if not stage.why:
        return "goes on"
    return "by itself" if stage.automatic else "as proposed"


def _print_estimates(run: Session, stage: "StagePlayed") -> None:
    control, treatment = stage.estimates[0].effect.people
    columns = ("per person", ">control", ">treatment", ">difference", ">interval", ">truth", "held")
    title = f"\n{stage.stage}: {control:,} and {treatment:,} people, beside what is true by their hidden tastes"
    run.console.table(columns, [_beside(one) for one in stage.estimates], title=title)


def _beside(one: "EstimateBesideTruth") -> list[str]:
    effect, truth = one.effect, one.truth
    told = _shares if effect.metric == "conversion" else _numbers
    return [
        effect.metric,
        *(told(value).lstrip("+") for value in (effect.control, effect.treatment)),
        told(effect.difference),
        f"{told(effect.low)} to {told(effect.high)}",
        told(truth.difference),
        "yes" if one.covered else "no",
    ]


def _shares(value: float) -> str:
    return f"{100 * value:+.1f} %".replace("-", "−")


def _numbers(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
