"""`molar evaluate`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molar_cli.options import (
    DebugOption,
    IndexOption,
    JsonOption,
    PartOption,
    QuietOption,
    SettingsOption,
    TrustOption,
    WorkspaceOption,
)
from molar_cli.session import Session, session
from molar_retrieval.errors import SettingsError

if TYPE_CHECKING:
    from molar_eval.evaluate import Evaluation
    from molar_eval.kpi.shown import ShownResult

GATE_FAILED = 5


def evaluate(
    catalogue: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CATALOG]", help="Folder of the catalogue; default: the workspace's.", show_default=False
        ),
    ] = None,
    where: PartOption = None,
    suite: Annotated[str, typer.Option(help="quick, paper, temporal, cold, or a TOML file.")] = "quick",
    demo: Annotated[
        bool, typer.Option("--demo", help="Write the made-up shop beside the workspace and use it.")
    ] = False,
    seeds: Annotated[int | None, typer.Option(help="Seeds of models that depend on one.", show_default=False)] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Only this model; may be repeated.", show_default=False)
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--slice", help="Item or user column to report by; may be repeated.", show_default=False),
    ] = None,
    category: Annotated[
        str | None,
        typer.Option(help="Item column whose mix in a list is compared to the history's.", show_default=False),
    ] = None,
    ties: Annotated[
        str | None,
        typer.Option(help="Order inside equal times: 'file order' or, as a check, 'item id'.", show_default=False),
    ] = None,
    seen: Annotated[
        str | None,
        typer.Option(help="Items that a user had: hide, show (taking them again counts) or both.", show_default=False),
    ] = None,
    gate: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Folder of a former run; exit 5 if a metric fell significantly."),
    ] = None,
    impressions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Value the lists on a log of what was shown, with propensities, instead."),
    ] = None,
    clip: Annotated[float | None, typer.Option(help="Largest weight with --impressions.", show_default=False)] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Folder of this run; default: evaluation/runs/ in the workspace."),
    ] = None,
    memory: Annotated[int, typer.Option(metavar="MIB", help="Memory for scores in ranking.")] = 256,
    index: IndexOption = None,
    trust_remote_code: TrustOption = False,
    settings: SettingsOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure how good the recommendations are, against tuned baselines, on splits that training never sees.

    Everything is trained anew on each split's own training log. What was computed is kept: a killed run goes on where
    it stopped, and a second run computes what changed. Writes report.html, report.json and per-case scores.

    Example: [bold]molar evaluate --suite temporal[/]
    """
    with session(workspace, json=json, quiet=quiet, debug=debug) as run:
        if gate is not None and out is not None and gate.resolve() == out.resolve():
            raise SettingsError(f"--gate and --out are both {out}", "write this run to another folder")
        shop = run.shop(_demo(run) if demo and catalogue is None else catalogue, settings)
        if impressions is not None:
            _tell_shown(run, shop.value_shown(impressions, clip=clip, where=where), impressions)
            return
        result = shop.evaluate(
            suite,
            models=model or (),
            slices=column or (),
            seeds=seeds,
            category=category,
            ties=ties,
            seen=seen,
            where=where,
            out=out,
            memory=memory,
            index=index,
            trust_remote_code=trust_remote_code,
            command="molar " + " ".join(_shown(sys.argv[1:])),
            tell=run.console.note,
        )
        _tell(run, result)
        if gate is not None:
            _gate(run, result, gate)


def _demo(run: Session) -> Path:
    """The made-up shop beside the workspace, written where it is not there."""
    from molar_retrieval.demo import write_demo_shop

    catalogue = run.root.parent / "shop"
    if not catalogue.exists():
        write_demo_shop(catalogue)
    return catalogue


def _shown(arguments: list[str]) -> list[str]:
    """The command line as a report may show it: folders by their names, a server by none."""
    return ["URL" if "://" in a else Path(a).name if Path(a).is_absolute() else _quoted(a) for a in arguments]


def _quoted(argument: str) -> str:
    return f"'{argument}'" if " " in argument else argument


def _tell(run: Session, result: "Evaluation") -> None:
    from molar_eval.report.terminal import blocks

    if run.console.as_json:
        run.console.document({**result.report.model_dump(mode="json"), "folder": str(result.folder)})
        return
    for part in blocks(result.report):
        run.console.table(part.columns, part.rows, title=part.title)
        for line in [*part.lines, ""]:
            run.console.line(line)
    run.console.line(f"report: {result.folder / 'report.html'}")


def _tell_shown(run: Session, result: "ShownResult", impressions: Path) -> None:
    if run.console.as_json:
        run.console.document(result.to_dict())
        return
    rows = [
        (v.estimator, f"{v.mean:.4g}", "–" if v.low is None else f"{v.low:.4g} … {v.high:.4g}", f"{v.rows:,}")
        for v in result.evaluation.values
    ]
    title = (
        f"reward per request if molar's first item had been shown; {result.contexts:,} requests in {impressions.name}"
    )
    run.console.table(["estimator", ">reward", ">95 % interval", ">rows used"], rows, title=title)
    weights = result.evaluation.weights
    run.console.line(
        f"effective rows {weights.effective_rows:,.0f}; requests without a history {result.without_history:.1%};"
        f" choices that the log never shows {result.never_shown:.1%}"
    )
    for warning in result.evaluation.warnings:
        run.console.line(f"caution: {warning}")
    run.console.line("what the estimators assume: docs/kpi.md")


def _gate(run: Session, result: "Evaluation", before: Path) -> None:
    from molar_eval.gate import gate

    falls = gate(result.folder, before)
    if not falls:
        run.console.note(f"gate: no metric fell significantly against {before}")
        return
    run.console.error(
        f"{len(falls)} metrics fell significantly against {before}",
        "; ".join(
            f"{f.model}, {f.split}, {f.where}: {f.metric} {f.before:.4f} → {f.now:.4f} (p {f.p:.2g})" for f in falls
        ),
    )
    raise typer.Exit(GATE_FAILED)
