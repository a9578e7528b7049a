"""`molar experiment start|status|check|advance|stop|report|assign|export`."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from molar_cli.options import option
from molar_cli.session import Session, command
from molar_retrieval.errors import SettingsError
from molar_retrieval.experiments.definition import OPTIONS, Arm, Experiment

if TYPE_CHECKING:
    from molar.introducing.moving import Moved
    from molar.introducing.standing import ExperimentStatus

_SHOWN = 10  # refused rows that are named
_Name = Annotated[str, typer.Argument(metavar="NAME", help="The experiment.", show_default=False)]
_Shows = Literal["lists", "popular", "nothing"]
_Generation = Annotated[str | None, option("Generation that is tried, of molar index list; default: the live one.")]
_Preset = Annotated[str | None, option("The last generation made by molar align --preset, instead of its name.")]
_Rules = Annotated[Path | None, option("Rules that are tried; default: those of the shop.", metavar="FILE")]
_Options = Annotated[
    list[str] | None,
    option(f"An option of a query: {', '.join(OPTIONS)}; often.", "--option", metavar="NAME=VALUE"),
]
_OfControl = Annotated[str | None, option("Generation of the control arm; default: the live one.")]
_ControlPreset = Annotated[str | None, option("The same by the preset that it was made with.")]
_ControlRules = Annotated[Path | None, option("Rules of the control arm; default: those of the shop.", metavar="FILE")]
_ControlOptions = Annotated[
    list[str] | None, option("As --option, of the control arm.", "--control-option", metavar="NAME=VALUE")
]
_People = Annotated[str | None, option("Only people who fulfil this: region = Kansai.", metavar="CONDITION")]
_Items = Annotated[str | None, option("Only who has such an item: category = Shoes.", metavar="CONDITION")]
_Placements = Annotated[list[str] | None, option("Only there on the site; often.", "--placement", metavar="PLACEMENT")]
_Stage = Literal["shadow", "interleaving", "canary", "ab"]
_Harm = Annotated[
    list[str] | None, option("How much worse a guardrail may be: clicks=0.1; often.", "--harm", metavar="NAME=SHARE")
]


@command()
def start(
    run: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called.", show_default=False)],
    generation: _Generation = None,
    preset: _Preset = None,
    rules: _Rules = None,
    options: _Options = None,
    shows: Annotated[_Shows, typer.Option(help="What the people of the new arm see.")] = "lists",
    control_generation: _OfControl = None,
    control_preset: _ControlPreset = None,
    control_rules: _ControlRules = None,
    control_options: _ControlOptions = None,
    control_shows: Annotated[_Shows, typer.Option(help="What those of the control arm see.")] = "lists",
    people: _People = None,
    items: _Items = None,
    placements: _Placements = None,
    primary: Annotated[
        Literal["conversion", "revenue", "clicks"], typer.Option(help="The figure that decides, per visitor.")
    ] = "conversion",
    stage: Annotated[_Stage | None, option("The first stage; default: shadow, or the first that it can have.")] = None,
    unit: Annotated[Literal["person", "time"], typer.Option(help="time: everybody changes arms together.")] = "person",
    assigned: Annotated[
        Literal["here", "elsewhere"], typer.Option(help="elsewhere: a service of the shop says who has which arm.")
    ] = "here",
    layer: Annotated[str, typer.Option(help="Experiments of one layer have different people.")] = Experiment.layer,
    slice: Annotated[
        tuple[float, float], typer.Option(metavar="0…1 0…1", help="Its part of the layer.")
    ] = Experiment.slice,
    canary: Annotated[
        float, typer.Option(metavar="0…1", help="Share that is treated in the canary.")
    ] = Experiment.canary,
    treated: Annotated[
        float, typer.Option(metavar="0…1", help="Share that is treated in the A/B stage.")
    ] = Experiment.treated,
    weeks: Annotated[int, typer.Option(help="How long the A/B stage lasts at most.")] = Experiment.weeks,
    alpha: Annotated[
        float, typer.Option(metavar="0…1", help="Chance of a false alarm, both sides.")
    ] = Experiment.alpha,
    power: Annotated[float, typer.Option(metavar="0…1", help="Chance to see the effect of --lift.")] = Experiment.power,
    lift: Annotated[float, typer.Option(help="The effect that it is planned for: 0.1 is +10 %.")] = Experiment.lift,
    harm: _Harm = None,
    block_hours: Annotated[int, typer.Option(help="Hours of a block of time.")] = Experiment.block_hours,
    margin: Annotated[float | None, option("Share of revenue that stays; default: costs.margin.")] = None,
    anyway: Annotated[
        bool, option("Though what was shown so far says that it does harm; it is written down.", "--anyway")
    ] = False,
) -> None:
    """Begin an experiment: first its lists are only compared, and every further stage needs your word.

    Example: [bold]molar align --preset best --stage[/], then [bold]molar experiment start best --preset best[/]

    Example: [bold]molar experiment start kansai --rules new.toml --people "region = Kansai" --primary revenue[/]

    Example: [bold]molar experiment start none --shows nothing --treated 0.1[/]
    """
    found = run.shop().experiments.start(
        name,
        generation=generation,
        preset=preset,
        rules=rules,
        options=_pairs("--option", options),
        shows=shows,
        control_generation=control_generation,
        control_preset=control_preset,
        control_rules=control_rules,
        control_options=_pairs("--control-option", control_options),
        control_shows=control_shows,
        people=people,
        items=items,
        placements=placements or (),
        primary=primary,
        stage=stage,
        unit=unit,
        assigned=assigned,
        layer=layer,
        slice=slice,
        canary=canary,
        treated=treated,
        weeks=weeks,
        alpha=alpha,
        power=power,
        lift=lift,
        harm=_pairs("--harm", harm),
        block_hours=block_hours,
        margin=margin,
        anyway=anyway,
    )
    if not run.document(found.to_dict()):
        run.console.line(f"{name} has begun: {found.stage.stage}", *_described(found))
        if found.beforehand is not None:
            outcome = found.beforehand.outcome.replace("_", " ")
            run.console.line(
                f"beforehand, by what was shown so far: {outcome}", *map("- {}".format, found.beforehand.why)
            )


@command()
def status(
    run: Session,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Default: all.", show_default=False)] = None,
) -> None:
    """Tell how experiments stand: the stage, since when, who is in each arm; of one, what is known and comes next.

    Example: [bold]molar experiment status[/]

    Example: [bold]molar experiment status best[/]
    """
    found = run.shop().experiments.status(name, known=name is not None)
    if run.document({"experiments": [one.to_dict() for one in found]}):
        return
    if name is None:
        rows = [
            (one.experiment.name, one.stage.stage, _when(one.stage.begun), *(f"{n:,}" for n in one.people.values()))
            for one in found
        ]
        run.console.table(("experiment", "stage", "since (UTC)", ">control", ">treatment"), rows)
        return
    for one in found:
        run.console.line(f"{one.experiment.name}: {one.stage.stage} since {_when(one.stage.begun)} UTC")
        run.console.line(*_described(one))
        stages = [
            (_when(row.begun), row.stage, "by itself" if row.automatic else row.by, row.why) for row in one.stages
        ]
        run.console.table(("since (UTC)", "stage", "by", "why"), stages, title="\nstages")
        if one.results is not None:
            from molar_cli.commands.experiment_results import print_results

            print_results(run.console, one.results)


@command()
def check(
    run: Session,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Default: all that run.", show_default=False)
    ] = None,
) -> None:
    """Look once: what is to become of the stage. What protects people is done at once, nothing else is.

    `molar serve` does this every half a minute.

    Example: [bold]molar experiment check[/]
    """
    experiments = run.shop().experiments
    found = experiments.check_all() if name is None else [experiments.check(name)]
    if run.document({"experiments": [one.to_dict() for one in found]}):
        return
    from molar_cli.commands.experiment_results import decided

    for one in found:
        run.console.line(f"{one.name}: {one.stage}", *decided(one.decision))
    if not found:
        run.console.line("no experiment runs")


@command()
def advance(
    run: Session,
    name: _Name,
    to: Annotated[
        Literal["interleaving", "canary", "ab", "everybody"] | None, option("The stage; default: the next one.")
    ] = None,
    anyway: Annotated[bool, option("Though what is known does not say so; it is written down.", "--anyway")] = False,
) -> None:
    """Bring an experiment to its next stage; with the last one, everybody, the treatment's generation goes live.

    Example: [bold]molar experiment advance best[/]

    Example: [bold]molar experiment advance best --to ab --anyway[/]
    """
    moved = run.shop().experiments.advance(name, to, anyway=anyway)
    if not run.document(moved.to_dict()):
        _tell(run, moved)


@command()
def stop(
    run: Session,
    name: _Name,
    why: Annotated[str, typer.Option(help="Why, as it is written down.")] = "",
    keep: Annotated[
        Literal["control", "treatment"], typer.Option(help="The arm that everybody has from now on.")
    ] = "control",
) -> None:
    """End an experiment; with --keep treatment its generation goes live.

    Example: [bold]molar experiment stop best --keep treatment --why "more revenue, week 4"[/]
    """
    found = run.shop().experiments.stop(name, why, keep=keep)
    if not run.document(found.to_dict()):
        _tell(run, found)


@command()
def report(
    run: Session,
    name: _Name,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The page, HTML.")] = Path("experiment.html"),
    language: Annotated[Literal["en", "de", "ja"], typer.Option(help="Of the page.")] = "en",
) -> None:
    """Write one page for those who decide: what it brings, with its interval, money, doubts.

    Example: [bold]molar experiment report best --language de[/]
    """
    done = run.shop().experiments.report(name, out, language=language)
    if not run.document({"page": str(done)}):
        run.console.line(f"page: {done}")


@command()
def assign(
    run: Session,
    name: _Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, JSONL or Parquet.", show_default=False)],
) -> None:
    """Take who is in which arm from a file: user_id or session_id, arm and timestamp of each person.

    For experiments of --assigned elsewhere. Exit code 1 where every row was refused.

    Example: [bold]molar experiment assign best flags.csv[/]
    """
    report = run.shop().experiments.assign(name, file)
    if not run.document(report.to_dict()):
        left_out = f", {report.left_out:,} forgotten or objecting, not put on record" if report.left_out else ""
        run.console.line(
            f"{report.accepted:,} assigned, {report.repeated:,} repeated, {report.refused:,} refused{left_out}"
        )
        named = report.refusals[:_SHOWN]
        run.console.note(*(f"row {one.row}, {one.field}: {one.problem}; {one.remedy}" for one in named))
    if report.refused and not report.accepted + report.repeated + report.left_out:
        raise typer.Exit(1)


@command()
def export(
    run: Session,
    name: _Name,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the tables go.", show_default=False)],
    format: Annotated[
        Literal["csv", "parquet", "growthbook"], typer.Option(help="growthbook: CSV with the names that it asks for.")
    ] = "csv",
) -> None:
    """Write who was assigned to which arm, and who met a difference, for SQL, spreadsheets or GrowthBook.

    Example: [bold]molar experiment export best tables/ --format parquet[/]
    """
    done = run.shop().experiments.export(name, folder, format=format)
    if not run.document(done.to_dict()):
        run.console.line(*(f"{rows:,} rows written to {folder / file}" for file, rows in done.rows.items()))


COMMANDS = (start, status, check, advance, stop, report, assign, export)


def _pairs(name: str, given: list[str] | None) -> dict[str, Any]:
    """``NAME=VALUE`` by name; numbers and truths are read, the rest is words."""
    found = {}
    for one in given or ():
        key, sign, value = one.partition("=")
        if not sign or not key:
            raise SettingsError(f"{name} {one} is no pair", f"write it as NAME=VALUE: {name} clicks=0.1")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def _described(one: "ExperimentStatus") -> list[str]:
    experiment = one.experiment
    what = "people" if experiment.unit == "person" else "blocks"
    counts = ", ".join(f"{arm} {one.people[arm]:,} {what}, {one.exposed[arm]:,} exposed" for arm in one.people)
    lines = [f"control: {_arm(experiment.control)}", f"treatment: {_arm(experiment.treatment)}", counts]
    segment = [experiment.segment.people, experiment.segment.items, ", ".join(experiment.segment.placements)]
    if any(segment):
        lines.insert(2, f"only: {'; '.join(part for part in segment if part)}")
    if one.both:
        lines.append(f"{one.both:,} saw both arms and count for neither")
    if one.following is not None:
        lines.append(f"next: {one.following}")
    return lines


def _arm(arm: "Arm") -> str:
    if arm.shows != "lists":
        return "no lists" if arm.shows == "nothing" else "the popular list"
    parts = [f"generation {arm.generation}" if arm.generation else "whatever is live"]
    parts += [f"rules {Path(arm.rules).name}"] if arm.rules else []
    return ", ".join([*parts, *(f"{name} = {value}" for name, value in arm.options.items())])


def _tell(run: Session, moved: "Moved") -> None:
    run.console.line(f"{moved.name}: {moved.before} → {moved.stage}")
    if moved.live is not None:
        run.console.line(f"live: generation {moved.live}")
    run.console.line(*moved.left)


def _when(micros: int) -> str:
    return f"{datetime.fromtimestamp(micros / 1e6, UTC):%Y-%m-%d %H:%M}"
