"""`molar evaluate`."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from molar_cli.options import ClusterOption, ConditionOption, IndexOption, TrustOption, option
from molar_cli.session import Session, command
from molar_retrieval.errors import SettingsError

if TYPE_CHECKING:
    from molar.evaluation_forecast import EvaluationForecast
    from molar_eval.evaluation import Evaluation
    from molar_eval.kpi.off_policy import PolicyValue
    from molar_eval.kpi.prelaunch import ShownResult
    from molar_eval.kpi.slates import SlateValue

GATE_FAILED = 5


@command()
def evaluate(
    run: Session,
    catalogue: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CATALOG]", help="Folder of the catalogue; default: the workspace's.", show_default=False
        ),
    ] = None,
    where: ConditionOption = None,
    suite: Annotated[
        str, typer.Option(help="quick, paper, temporal, cold, referee, prequential, rolling, or a TOML file.")
    ] = "quick",
    demo: Annotated[bool, option("Write the made-up shop beside the workspace and use it.", "--demo")] = False,
    seeds: Annotated[int | None, option("Seeds of models that depend on one.")] = None,
    model: Annotated[list[str] | None, option("Only this model, built in or installed; may be repeated.")] = None,
    column: Annotated[list[str] | None, option("Item or user column to report by; may be repeated.", "--slice")] = None,
    category: Annotated[str | None, option("Item column whose mix in a list is compared to the history's.")] = None,
    ties: Annotated[str | None, option("Order inside equal times: 'file order' or, as a check, 'item id'.")] = None,
    seen: Annotated[str | None, option("Items that a user had: hide, show (taking them again counts) or both.")] = None,
    gate: Annotated[
        Path | None, option("Folder of a former run; exit 5 if a metric fell significantly.", metavar="RUN")
    ] = None,
    impressions: Annotated[
        Path | None,
        option("Value the lists on what was shown, with propensities: a file, or `events`.", metavar="FILE"),
    ] = None,
    clip: Annotated[float | None, option("Largest weight with --impressions.")] = None,
    out: Annotated[
        Path | None, option("Folder of this run; default: evaluation/runs/ in the workspace.", metavar="RUN")
    ] = None,
    memory: Annotated[int, typer.Option(metavar="MIB", help="Memory for scores in ranking.")] = 256,
    dry_run: Annotated[bool, option("Tell what former runs here say of time and money.", "--dry-run")] = False,
    index: IndexOption = None,
    trust_remote_code: TrustOption = False,
    cluster: ClusterOption = None,
) -> None:
    """Measure how good the recommendations are, against tuned baselines, on splits that training never sees.

    Everything is trained anew on each split's own training log. What was computed is kept: a killed run goes on where
    it stopped, and a second run computes what changed. Writes report.html, report.json and per-case scores.

    Example: [bold]molar evaluate --suite temporal[/]
    """
    from molar.sources import demo_beside

    if gate is not None and out is not None and gate.resolve() == out.resolve():
        raise SettingsError(f"--gate and --out are both {out}", "write this run to another folder")
    if demo and catalogue is not None:
        raise SettingsError(f"--demo is a catalogue of its own, and {catalogue} another", "leave one out")
    others: dict[str, Any] = {"--suite": suite != "quick", "--seeds": seeds, "--model": model, "--slice": column}
    others |= {"--category": category, "--ties": ties, "--seen": seen, "--gate": gate, "--out": out}
    others |= {
        "--memory": memory != 256,
        "--index": index,
        "--trust-remote-code": trust_remote_code,
        "--cluster": cluster is not None,
    }
    if impressions is None and clip is not None:
        raise SettingsError("--clip bounds the weights of --impressions", "name a log of what was shown")
    if impressions is not None and (given := [name for name, value in others.items() if value]):
        raise SettingsError(f"--impressions values molar's lists alone, without {', '.join(given)}", "leave them out")
    if dry_run and any(
        (impressions, where, gate, out, demo, index, memory != 256, trust_remote_code, cluster is not None)
    ):
        more = "--impressions, --where, --gate, --out, --demo, --index, --memory, --trust-remote-code and --cluster"
        raise SettingsError(f"--dry-run predicts a run on what the workspace has, {more} say more", "leave these out")
    shop = run.shop(demo_beside(run.root) if demo else catalogue)
    if dry_run:
        _print_forecast(
            run,
            shop.evaluation_forecast(
                suite, models=model or (), slices=column or (), seeds=seeds, category=category, ties=ties, seen=seen
            ),
        )
        return
    if impressions is not None:
        _print_value(run, shop.value_shown(impressions, clip=clip, where=where), impressions)
        return
    result = shop.evaluate(
        suite, models=model or (), slices=column or (), seeds=seeds, category=category, ties=ties, seen=seen,
        where=where, out=out, memory=memory, index=index, trust_remote_code=trust_remote_code, cluster=cluster,
        command="molar " + " ".join(_shown(sys.argv[1:])), tell=run.console.note,
    )  # fmt: skip
    _print(run, result)
    if gate is not None:
        _gate(run, result, gate)


def _shown(arguments: list[str]) -> list[str]:
    """The command line as a report may show it: folders by their names, a server by none."""
    return ["URL" if "://" in a else Path(a).name if Path(a).is_absolute() else shlex.quote(a) for a in arguments]


def _print(run: Session, result: "Evaluation") -> None:
    from molar_eval.report.verdict import terminal_tables

    if run.document({**result.report.model_dump(mode="json"), "folder": str(result.folder)}):
        return
    for table in terminal_tables(result.report):
        run.console.table(table.columns, table.rows, title=table.title)
        run.console.line(*table.lines, "")
    if result.folder is not None:
        run.console.line(f"report: {result.folder / 'report.html'}")


def _print_forecast(run: Session, predicted: "EvaluationForecast") -> None:
    if not run.document(predicted.to_dict()):
        run.console.table(["split", "model", ">seconds", "from"], predicted.rows)
        run.console.line(*predicted.lines())


def _print_value(run: Session, result: "ShownResult", impressions: Path) -> None:
    if run.document(result.to_dict()):
        return
    of_events = str(impressions) == "events"
    what = "place if molar's lists" if of_events else "request if molar's first item"
    title = f"reward per {what} had been shown; {result.contexts:,} requests in {impressions.name}"
    rows = [(*_estimate(v), f"{v.rows:,}") for v in result.evaluation.values]
    run.console.table(["estimator", ">reward", ">95 % interval", ">rows used"], rows, title=title)
    slates = result.slates
    if slates is not None and slates.values:
        title = f"reward per request if molar's lists had been shown; of {slates.requests:,} the log tells"
        rows_of_lists = [_estimate(v) for v in slates.values]
        run.console.table(["estimator", ">reward", ">95 % interval"], rows_of_lists, title=title)
    weights = result.evaluation.weights
    run.console.line(
        f"effective rows {weights.effective_rows:,.0f}; requests without a history {result.without_history:.1%};"
        f" choices that the log never shows {result.never_shown:.1%}",
        *([f"requests without propensities, left out: {result.left_out:,}"] if result.left_out else []),
        *(f"caution: {warning}" for warning in result.evaluation.warnings),
        *(f"caution, whole lists: {warning}" for warning in (slates.warnings if slates is not None else ())),
        "what the estimators assume: docs/kpi.md",
    )


def _estimate(value: "PolicyValue | SlateValue") -> tuple[str, str, str]:
    interval = "–" if value.low is None else f"{value.low:.4g} … {value.high:.4g}"
    return value.estimator, f"{value.mean:.4g}", interval


def _gate(run: Session, result: "Evaluation", before: Path) -> None:
    falls = result.falls_since(before)
    if not falls:
        run.console.note(f"gate: no metric fell significantly against {before}")
        return
    told = [f"{f.model}, {f.split}, {f.where}: {f.metric} {f.before:.4f} → {f.now:.4f} (p {f.p:.2g})" for f in falls]
    run.console.error(f"{len(falls)} metrics fell significantly against {before}", "; ".join(told))
    raise typer.Exit(GATE_FAILED)
