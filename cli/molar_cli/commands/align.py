"""`molar align`."""

from typing import TYPE_CHECKING, Annotated

import typer

from molar_cli.options import DebugOption, JsonOption, QuietOption, SettingsOption, WorkspaceOption
from molar_cli.session import Session, session

if TYPE_CHECKING:
    from molar_indexes.generations import Generation
    from molar_retrieval.alignment.align import AlignReport
    from molar_retrieval.alignment.checkpoint import EpochScore


def align(
    epochs: Annotated[int | None, typer.Option(help="Most passes over the log.", show_default=False)] = None,
    dim: Annotated[int | None, typer.Option(help="Width of each tower.", show_default=False)] = None,
    align_weight: Annotated[
        float | None, typer.Option(help="Weight of the user-level contrastive loss.", show_default=False)
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; 1: bit-equal reruns.", show_default=False)] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps.", show_default=False)] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed, another run.", show_default=False)] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--restart", help="Continue an interrupted training run, or forget it.")
    ] = True,
    settings: SettingsOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Train the post-alignment network and publish a generation, so that `molar query` works next.

    Collaborative factors are made on the way. An interrupted run publishes nothing and goes on where it was.

    Example: [bold]molar align[/]
    """
    with session(workspace, json=json, quiet=quiet, debug=debug) as run:
        from molar_indexes.assemble import publish_generation
        from molar_retrieval.alignment.align import align as train
        from molar_retrieval.interactions import prepare_interactions

        chosen = run.settings(
            settings,
            align={
                "epochs": epochs,
                "dim": dim,
                "align_weight": align_weight,
                "threads": threads,
                "device": device,
                "seed": seed,
            },
        )
        place = run.workspace()
        with run.console.progress() as progress:
            prepare_interactions(place.catalogue, place, progress)
            report = train(
                place, chosen, restart=not resume, progress=progress, on_epoch=lambda score: _curve(run, score)
            )
            generation = publish_generation(place, chosen.index, progress)
        _tell(run, report, generation)


def _curve(run: Session, score: "EpochScore") -> None:
    run.console.note(
        f"epoch {score.epoch:>3}  loss {score.loss:.3f}  validation NDCG@10 {score.ndcg:.4f}"
        f"  (collaborative {score.collaborative:.4f}, content {score.content:.4f})  {score.seconds:.0f} s"
    )


def _tell(run: Session, report: "AlignReport", generation: "Generation") -> None:
    if run.console.as_json:
        run.console.document({**report.to_dict(), "generation": generation.name})
        return
    facts = report.facts
    rows = [(name, f"{s['ndcg@10']:.4f}", f"{s['recall@10']:.4f}") for name, s in report.scores.items()]
    run.console.table(
        ["model", ">NDCG@10", ">Recall@10"],
        rows,
        title=f"validation: the last item of {facts['validation_cases']:,} users, among all {facts['items']:,} items,"
        " seen ones hidden",
    )
    collaborative, content = facts["weights"]
    done = "up to date" if report.up_to_date else f"{facts['best_epoch']} epochs, {facts['seconds']:.0f} s"
    run.console.line(
        f"alignment: {done}; score = {collaborative:g} × collaborative + {content:g} × content;"
        f" {facts['cold_items']:,} items have no training interactions"
    )
    run.console.line(f"published: generation {generation.name}")
