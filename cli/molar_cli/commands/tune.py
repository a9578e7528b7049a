"""`molar tune`."""

from typing import TYPE_CHECKING, Annotated

from molar_cli.options import option
from molar_cli.session import Session, command
from molar_retrieval.workspace.config_files import Preset

if TYPE_CHECKING:
    from molar_eval.tuning.result import TuningResult

_SHOWN = 10


@command()
def tune(
    run: Session,
    minutes: Annotated[float, option("What all trials may take together, those of earlier runs too.")] = 60.0,
    trials: Annotated[int | None, option("Most trials of the search; default: as many as there is time for.")] = None,
    preset: Annotated[Preset | None, option("Search under another preset than that of the settings.")] = None,
    write: Annotated[
        bool, option("Write the best settings into molar.toml, if they are better for others too.", "--write")
    ] = False,
) -> None:
    """Search for better settings of training by this shop's own validation, and say whether they hold.

    Half of the people whose last interaction is held out choose, the others confirm. What is live stays as it is. A
    killed search goes on where it was. It needs the extra `tune`.

    Example: [bold]molar tune --minutes 120[/]

    Example, the settings written into molar.toml, then used: [bold]molar tune --minutes 120 --write && molar align[/]
    """
    result = run.shop().tune(minutes=minutes, trials=trials, preset=preset, write=write)
    if not run.document(result.to_dict()):
        _print(run, result, write)


def _print(run: Session, result: "TuningResult", write: bool) -> None:
    from molar_eval.tuning.result import headline, lines_of, sentences
    from molar_retrieval.reports.wording import duration, fraction

    if not result.ran:
        run.console.line("the budget is spent: nothing was run; more --minutes or --trials go on", "")
    best = sorted((one for one in result.trials if one.score is not None), key=lambda one: -(one.score or 0.0))
    rows = [
        (
            f"{one.number}{', present settings' if one is result.current else ''}",
            fraction(one.score),
            duration(one.seconds),
        )
        for one in best[:_SHOWN]
    ]
    title = f"the best of {len(result.trials)} trials, for the {result.users:,} users who choose"
    run.console.table(["trial", ">NDCG@10", ">time"], rows, title=title)
    run.console.line("", f"{headline(result)}.", *sentences(result))
    if result.recommended and result.written is None:
        run.console.line("", "for molar.toml (--write writes it):", *(f"  {line}" for line in lines_of(result.changes)))
    if result.written is not None:
        run.console.line(f"written: {result.written}; `molar align` trains by it", *lines_of(result.changes))
    elif write:
        run.console.line("nothing was written")
