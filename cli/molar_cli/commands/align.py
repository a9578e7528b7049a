"""`molar align`."""

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
from molar_cli.served import settings_of
from molar_cli.session import Session, session
from molar_retrieval.config import Preset

if TYPE_CHECKING:
    from molar_indexes.generations import Generation
    from molar_indexes.server.push import PushReport
    from molar_retrieval.alignment.align import AlignReport
    from molar_retrieval.alignment.checkpoint import EpochScore


def align(
    preset: Annotated[
        Preset | None,
        typer.Option(help="How long it may take: instant counts only, best trains longest.", show_default=False),
    ] = None,
    where: PartOption = None,
    epochs: Annotated[int | None, typer.Option(help="Most passes over the log.", show_default=False)] = None,
    dim: Annotated[int | None, typer.Option(help="Width of the collaborative tower.", show_default=False)] = None,
    align_weight: Annotated[
        float | None, typer.Option(help="Weight of the user-level contrastive loss.", show_default=False)
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; 1: bit-equal reruns.", show_default=False)] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps.", show_default=False)] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed, another run.", show_default=False)] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--restart", help="Continue an interrupted training run, or forget it.")
    ] = True,
    index: IndexOption = None,
    trust_remote_code: TrustOption = False,
    settings: SettingsOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Train the post-alignment network and publish a generation, so that `molar query` works next.

    Collaborative factors are made on the way. An interrupted run publishes nothing and goes on where it was.

    Example: [bold]molar align[/]

    Example, on two GPUs: [bold]accelerate launch --multi_gpu --num_processes 2 $(which molar) align[/]
    """
    with session(workspace, json=json, quiet=quiet, debug=debug) as run:
        from molar_indexes.assemble import publish_generation
        from molar_retrieval.alignment.align import align as train
        from molar_retrieval.alignment.align import help_to_align
        from molar_retrieval.alignment.processes import Processes
        from molar_retrieval.allocator import keep_freed_memory
        from molar_retrieval.embedding.part import prepare_part
        from molar_retrieval.interactions import prepare_interactions

        chosen = settings_of(
            run,
            index,
            file=settings,
            trust=trust_remote_code,
            align={
                "preset": preset,
                "epochs": epochs,
                "dim": dim,
                "align_weight": align_weight,
                "threads": threads,
                "device": device,
                "seed": seed,
            },
        )
        keep_freed_memory()
        place = run.workspace()
        processes = Processes.of_launcher()
        if not processes.first:
            help_to_align(place, processes)
            return
        with run.console.progress() as progress:
            if where is not None:
                prepare_part(place, where, chosen.embed, progress)
            prepare_interactions(place.catalogue, place, progress)
            report = train(
                place,
                chosen,
                restart=not resume,
                processes=processes,
                progress=progress,
                on_epoch=lambda score: _curve(run, score),
            )
            generation = publish_generation(place, chosen.index, progress)
            pushed = None
            if chosen.index.url is not None:
                from molar_indexes.server.push import push

                pushed = push(place, chosen.index, generation=generation.name, progress=progress)
        _tell(run, report, generation, pushed)


def _curve(run: Session, score: "EpochScore") -> None:
    towers = ", ".join(f"{name} {ndcg:.4f}" for name, ndcg in score.towers.items())
    run.console.note(
        f"epoch {score.epoch:>3}  loss {score.loss:.3f}  validation NDCG@10 {score.ndcg:.4f}"
        f"  ({towers})  {score.seconds:.0f} s"
    )


def _tell(run: Session, report: "AlignReport", generation: "Generation", pushed: "PushReport | None") -> None:
    if run.console.as_json:
        served = {} if pushed is None else {"pushed": pushed.to_dict()}
        run.console.document({**report.to_dict(), "generation": generation.name, **served})
        return
    facts = report.facts
    rows = [
        (_NAMES.get(name, name), f"{s['ndcg@10']:.4f}", f"{s['recall@10']:.4f}", _share(facts["shares"].get(name)))
        for name, s in report.scores.items()
    ]
    run.console.table(
        ["model", ">NDCG@10", ">Recall@10", ">share"],
        rows,
        title=f"validation: what {facts['validation_cases']:,} users took next, among all {facts['items']:,} items,"
        " seen ones hidden",
    )
    sizes = facts["sizes"]
    done = "up to date" if report.up_to_date else f"{facts['seconds']:.0f} s"
    trained = f"{facts['best_epoch']} epochs, {sizes['dim']} dimensions, {sizes['history']} items of history"
    run.console.line(f"alignment: {done}; {trained if facts['best_epoch'] else 'nothing trained, only counted'}")
    run.console.line(
        f"{facts['cold_items']:,} of {facts['items']:,} items have no training interactions and get"
        f" {facts['slots']} of the first 10 places"
    )
    second = facts["rerank"]
    if "used" in second:
        verdict = "used" if second["used"] else "not borne out, left out"
        run.console.line(
            f"second stage: {verdict}; NDCG@10 {second['before']:.4f} before, {second['after']:.4f} after, by networks"
            " that had not seen the user"
        )
    run.console.line(f"published: generation {generation.name}")
    if pushed is not None:
        run.console.line(f"live at {pushed.url} as {pushed.alias}: collection {pushed.collection}")


_NAMES = {
    "sequence": "what follows what",
    "linear": "what goes together",
    "neighbours": "content neighbours",
    "trend": "popular right now",
    "collaborative": "collaborative tower",
    "content": "content tower",
}
"""How the parts of a score are called to people."""


def _share(value: float | None) -> str:
    """How much of the sum a part is; nothing for what is not in it."""
    return "" if value is None else f"{value:.0%}"
