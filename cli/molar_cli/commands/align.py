"""`molar align`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from molar_cli.options import ClusterOption, ConditionOption, IndexOption, StageOption, TrustOption, option
from molar_cli.session import Session, command
from molar_retrieval.errors import SettingsError
from molar_retrieval.ranking.objectives import slots_of
from molar_retrieval.workspace.config_files import Preset

if TYPE_CHECKING:
    from collections.abc import Mapping

    from molar.aligning import Aligned, PrivateOutcome
    from molar_retrieval.ranking.objectives import Slots


@command()
def align(
    run: Session,
    preset: Annotated[Preset | None, option("How long it may take: instant counts only, best trains longest.")] = None,
    where: ConditionOption = None,
    epochs: Annotated[int | None, option("Most passes over the log.")] = None,
    embedding_dim: Annotated[int | None, option("Width of the ID tower.")] = None,
    alignment_weight: Annotated[float | None, option("Weight of the user-level contrastive loss.")] = None,
    threads: Annotated[int | None, option("CPU threads; 1: bit-equal reruns.")] = None,
    device: Annotated[str | None, option("cpu, cuda, mps.")] = None,
    seed: Annotated[int | None, option("Another seed, another run.")] = None,
    model: Annotated[
        list[str] | None, option("An installed model of your own that gives vectors; may be repeated.")
    ] = None,
    privacy: Annotated[
        float | None, option("Learn of people by one release with noise alone, at this epsilon.", metavar="EPSILON")
    ] = None,
    others: Annotated[
        list[Path] | None,
        option("Add another shop's statistics, as `molar privacy share` wrote them.", "--with", metavar="FILE"),
    ] = None,
    alone: Annotated[bool, option("Add no other shop's statistics, also if the live ones do.", "--alone")] = False,
    resume: Annotated[
        bool, typer.Option("--resume/--restart", help="Continue an interrupted training run, or forget it.")
    ] = True,
    stage: StageOption = False,
    index: IndexOption = None,
    dry_run: Annotated[bool, option("Predict time and money by parts of it, write nothing.", "--dry-run")] = False,
    trust_remote_code: TrustOption = False,
    cluster: ClusterOption = None,
) -> None:
    """Train the post-alignment network and publish a generation, so that `molar query` works next.

    Collaborative factors are made on the way. An interrupted run publishes nothing and goes on where it was.

    Example: [bold]molar align[/]

    Example, with differential privacy at ε = 4: [bold]molar align --privacy 4[/]

    Example, with what another shop has released: [bold]molar align --privacy 4 --with theirs.statistics[/]

    Example, on two GPUs: [bold]accelerate launch --multi_gpu --num_processes 2 $(which molar) align[/]
    """
    if dry_run:
        more = (where, index, stage, others, model, alone, trust_remote_code, seed is not None, not resume)
        if any(more) or cluster is not None:
            kept = (
                "--where, --index, --stage, --with, --model, --alone, --seed, --restart, --cluster, --trust-remote-code"
            )
            raise SettingsError(
                f"--dry-run predicts a run on what the workspace has, {kept} say more", "leave these out"
            )
        sized: dict[str, Any] = {
            "preset": preset,
            "epochs": epochs,
            "embedding_dim": embedding_dim,
            "alignment_weight": alignment_weight,
        }
        predicted = run.shop().align_forecast(**sized, threads=threads, device=device, privacy=privacy)
        if not run.document(predicted.to_dict()):
            run.console.line(*predicted.lines())
        return
    if others and alone:
        raise SettingsError("--with adds statistics of others, --alone adds none", "leave one out")
    done = run.shop().align(
        preset=preset, epochs=epochs, embedding_dim=embedding_dim,
        alignment_weight=alignment_weight, threads=threads, device=device, seed=seed,
        models=model or (), privacy=privacy, others=[] if alone else others, resume=resume, where=where, stage=stage,
        index=index, trust_remote_code=trust_remote_code, cluster=cluster,
    )  # fmt: skip
    print_aligned(run, done)


def print_aligned(run: Session, done: "Aligned | None") -> None:
    """Print what was trained and published; nothing in a process that only helped another one."""
    if done is None:
        return
    if run.document(done.to_dict()):
        return
    if done.private is not None:
        _print_private(run, done, done.private)
    else:
        _print_trained(run, done)
    if done.staged:
        print_staged(run, done.generation)
    else:
        run.console.line(f"published: generation {done.generation}")
    if (pushed := done.pushed) is not None:
        run.console.line(f"live at {pushed.url} as {pushed.alias}: collection {pushed.collection}")


def _print_private(run: Session, done: "Aligned", private: "PrivateOutcome") -> None:
    """Print what was released, what that takes, and what is left out."""
    facts, standing = done.report.facts["private"], private.ledger
    released = "released now" if private.released else f"of the same log, released {facts['released_at'][:10]}: no cost"
    run.console.line(
        f"statistics with noise, ε = {facts['epsilon']:g}, δ = {facts['delta']:g} for each person, {released}",
        f"365 days took ε = {standing.spent:.2f} of {standing.yearly:g}; another release may take {standing.left:.2f}",
        *(_of_other(one) for one in facts["others"]),
        "left out:",
        *(f"  {what}: {why}" for what, why in facts["off"].items()),
        "new interactions count for their own people at once, for others with the next release",
    )
    if private.without:
        kept = ", ".join(private.without)
        run.console.line(f"still kept, and made without noise: {kept}; [index] keep says how many stay")


def _of_other(one: "Mapping[str, Any]") -> str:
    """What another shop's statistics add."""
    looks = "what is taken after what looks like what"
    if not one["transitions"]:
        looks = "nothing of looks, of which too few people tell"
    elif not one["same_terms"]:
        looks = "nothing of looks, which it tells in other terms: let one of you share `--like` the other's file"
    return (
        f"added of another shop, ε = {one['epsilon']:g} for its people: popularity of {one['items']:,} items that both"
        f" have, {one['pairs']:,} pairs, {looks}"
    )


def _print_trained(run: Session, done: "Aligned") -> None:
    report = done.report
    facts = report.facts
    shares = {name: f"{share:.0%}" for name, share in facts["shares"].items()}
    rows = [
        (_NAMES.get(name, name), f"{s['ndcg@10']:.4f}", f"{s['recall@10']:.4f}", shares.get(name, ""))
        for name, s in report.scores.items()
    ]
    run.console.table(
        ["model", ">NDCG@10", ">Recall@10", ">share"],
        rows,
        title=f"validation, next item: {facts['validation_cases']:,} users, {facts['items']:,} items ranked,"
        " seen items hidden",
    )
    for when, key in (("left out", "dropped"), ("trained for two epochs and left out", "pruned")):
        for name, gain in facts.get(key, {}).items():
            change = f"{gain['value']:+.4f} ± {gain['error']:.4f}"
            run.console.line(f"{when}: {_NAMES.get(name, name)}, which changes NDCG@10 by {change}")
    _print_future_items(run, facts)
    _print_repeat(run, facts)
    _print_session_start(run, facts.get("session_start"), "seen items hidden")
    _print_session_start(run, (facts.get("repeat") or {}).get("session_start"), "seen items shown")
    sizes = facts["sizes"]
    took = "up to date" if report.up_to_date else f"{facts['seconds']:.0f} s"
    processes = max((epoch.processes for epoch in report.curve), default=1)
    by = f" by {processes} processes" if processes > 1 else ""
    wide = (
        f"{members} × {sizes['embedding_dim']}"
        if (members := sizes.get("members", 1)) > 1
        else str(sizes["embedding_dim"])
    )
    trained = f"{facts['best_epoch']} epochs{by}, {wide} dimensions, {sizes['max_history']} items of history"
    run.console.line(f"alignment: {took}; {trained if facts['best_epoch'] else 'nothing trained, only counted'}")
    run.console.line(
        f"cold-start items: {facts['cold_items']:,} of {facts['items']:,};"
        f" validation gives them {_which(slots_of(facts))}"
    )
    run.console.line(_told(done.exploration))
    second = facts["reranking"]
    if "used" in second:
        verdict = "used" if second["used"] else "left out, as its gain is not significant"
        run.console.line(
            f"reranker: {verdict}; cross-fitted NDCG@10 {second['before']:.4f} before, {second['after']:.4f} after"
        )


def _print_future_items(run: Session, facts: "Mapping[str, Any]") -> None:
    """Print what the parts and their sum reach of all that people took after a cut in the training log."""
    later = facts.get("future_items") or {}
    if "scores" not in later:
        return
    rows = [
        (_NAMES.get(name, name), f"{score:.4f}", f"{later['shares'][name]:.0%}" if name in later["shares"] else "")
        for name, score in sorted(later["scores"].items(), key=lambda one: one[0] == "aligned")
    ]
    run.console.table(
        ["model", ">NDCG@10", ">share"],
        rows,
        title=f"validation, future items: {later['cases']:,} users, all new items after cuts in the log",
    )


def _print_session_start(run: Session, session_start: "Mapping[str, Any] | None", seen: str) -> None:
    """Print what the parts and their sum reach as of the beginning of a visit, if there are weights for that."""
    if session_start is None:
        return
    names = {**_NAMES, "next_item": "ensemble, weights of the next item"}
    shares = {name: f"{share:.0%}" for name, share in session_start["shares"].items()}
    run.console.table(
        ["model", ">NDCG@10", ">Recall@10", ">share"],
        [
            (names.get(name, name), f"{s['ndcg@10']:.4f}", f"{s['recall@10']:.4f}", shares.get(name, ""))
            for name, s in session_start["scores"].items()
        ],
        title=f"validation, session start: {session_start['cases']:,} users, {seen}",
    )


def _print_repeat(run: Session, facts: "Mapping[str, Any]") -> None:
    """Print what the parts and their sum reach where lists show what somebody had, if it has weights of its own."""
    again = facts.get("repeat")
    if again is None:
        return
    shares = {name: f"{share:.0%}" for name, share in again["shares"].items()}
    run.console.table(
        ["model", ">NDCG@10", ">Recall@10", ">share"],
        [
            (_NAMES.get(name, name), f"{s['ndcg@10']:.4f}", f"{s['recall@10']:.4f}", shares.get(name, ""))
            for name, s in again["scores"].items()
        ],
        title=f"validation, next item with repeats: {again['cases']:,} users, {again['repeats']:,} of them took the"
        " item before, seen items shown",
    )


def print_staged(run: Session, staged: str) -> None:
    """Print which generation waits to be made live, and what to do with it."""
    live = next(one.name for one in run.shop().generations() if one.live)
    run.console.line(f"published beside what is live: generation {staged}")
    onwards = "rollback" if run.shop().server() is None else "push"
    run.console.line(f"  what it changes: `molar index diff {live} {staged}`")
    run.console.line(f"  to make it live: `molar index {onwards} {staged}`")


def _which(slots: "Slots") -> str:
    """Of the first ten, in words."""
    if not slots:
        return "none of the first 10 slots"
    *others, tenth = map(str, slots)
    return f"slots {', '.join(others)} and {tenth}" if others else f"slot {tenth}"


def _told(exploration: "Mapping[str, Any] | None") -> str:
    """What is done for new items and those with few interactions, and how to change it."""
    if exploration is None:
        return "new items are not explored beyond that: [exploration] explore = true does so"
    if not (slots := slots_of(exploration)):
        return "new items are not explored beyond that: [exploration] slots = 1 does so"
    return f"new items are explored: {len(slots)} of the first 10 slots by a draw; [exploration] slots changes it"


_NAMES = {
    "total_popularity": "popularity (total)",
    "als": "ALS",
    "ease": "EASE",
    "item_knn": "item kNN",
    "repeat_consumption": "repeat consumption",
    "ease_future": "EASE (future items)",
    "content_knn": "content kNN",
    "popularity": "popularity (recent)",
    "id_tower": "ID tower",
    "content_tower": "content tower",
    "aligned": "ensemble",
}
"""What the models are called in tables."""
