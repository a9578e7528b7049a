"""`molar index list|verify|rollback|diff|push|prune|size`."""

from typing import TYPE_CHECKING, Annotated

import typer

from molar_cli.options import ClusterOption, IndexOption, option
from molar_cli.session import Session, command
from molar_retrieval.errors import SettingsError, StaleArtefactError

if TYPE_CHECKING:
    from molar_eval.version_comparison import GroupQuality
    from molar_indexes.server.collections import PublishedCollection

app = typer.Typer(
    help="List, verify and roll back the generations of the index, here and on a server.", no_args_is_help=True
)
GenerationArgument = Annotated[str | None, typer.Argument(help="Default: the live one.", show_default=False)]


@app.command("list")
@command()
def list_(run: Session, index: IndexOption = None) -> None:
    """List the generations, newest last, and the collections of a server; what is live is marked.

    Example: [bold]molar index list[/]
    """
    shop = run.shop()
    found, server = shop.generations(), shop.server(index)
    there = [_described(one) for one in shop.collections(index=index)]
    served = {} if server is None else {"server": {"url": server.url, "collections": there}}
    if run.document({"generations": [g.to_dict() for g in found], **served}):
        return
    rows = [("→" if g.live else "", g.name, g.backend, f"{g.items:,}", f"{g.users:,}", g.created) for g in found]
    run.console.table(["", "generation", "backend", ">items", ">users", "made"], rows)
    if server is not None:
        shown = [
            ("→" if one["live"] else "", one["collection"], one["holds"], f"{one['points']:,}", one["state"])
            for one in there
        ]
        run.console.table(["", "collection", "holds", ">points", "state"], shown, title=f"\n{server.url}")


def _described(one: "PublishedCollection") -> dict[str, object]:
    return {
        "collection": one.name,
        "generation": one.metadata.generation,
        "holds": one.metadata.holds,
        "points": one.points,
        "live": one.live,
        "state": one.status if one.metadata.whole else "unfinished",
    }


@app.command()
@command()
def verify(
    run: Session,
    generation: GenerationArgument = None,
    deep: Annotated[bool, option("Read every byte, vector and user, and what it was made from.", "--deep")] = False,
    index: IndexOption = None,
) -> None:
    """Check that a generation is whole and belongs to the workspace's artefacts; with a server, as it answers there.

    Example: [bold]molar index verify --deep[/]
    """
    found = run.shop().verify(generation, deep=deep, index=index)
    about = {"generation": found.generation, "problems": list(found.problems), "warnings": list(found.warnings)}
    told = run.document(about)
    for warning in found.warnings:
        run.console.note(warning)
    if not told and not found.problems:
        run.console.line(f"generation {found.generation} is whole{f', at {found.url} as well' if found.url else ''}")
    if found.problems:
        raise StaleArtefactError(
            f"generation {found.generation}: " + "; ".join(found.problems),
            "run `molar align` again, or `molar index rollback`",
        )


@app.command()
@command()
def rollback(
    run: Session,
    generation: Annotated[str | None, typer.Argument(help="Default: the one before.", show_default=False)] = None,
    index: IndexOption = None,
) -> None:
    """Make an older generation the live one: on the server where one is named, else in the workspace.

    Example: [bold]molar index rollback[/]
    """
    live = run.shop().rollback(generation, index=index)
    served = {} if live.collection is None else {"collection": live.collection}
    if run.document({"generation": live.generation, **served}):
        return
    if live.collection is None:
        run.console.line(f"live: generation {live.generation}")
        return
    run.console.line(f"live: {live.alias} at {live.url} names {live.collection}")
    if not live.kept_here:
        run.console.note(f"this workspace has no generation {live.generation}, and cannot ask for it")


@app.command()
@command()
def diff(
    run: Session,
    before: Annotated[
        str | None, typer.Argument(help="Default: the live one, or the one before it.", show_default=False)
    ] = None,
    after: GenerationArgument = None,
    users: Annotated[int, option("Of how many people the lists are made.", min=1)] = 500,
) -> None:
    """Say what changes for people between two generations: whose first ten, which items gain and lose places.

    Both answer as they would now, with all events and the rules, but without drawing new items. It also says which part
    of the score brought items into lists and out of them, and how many lists differ of new and of regular customers.

    Example: [bold]molar index diff[/]

    Example: [bold]molar index diff 20261126-031512-3f2a9c1b --users 2000[/]
    """
    found = run.shop().diff(before, after, users=users)
    if run.document(found.to_dict()):
        return
    lists = found.lists
    run.console.line(f"{found.before} → {found.after}: the first ten of {lists.people:,} people")
    run.console.line(
        f"{lists.changed:,} lists differ; {lists.exchanged:.1%} of all places have an item that was not in the list"
    )
    for title, items in (("more people see", lists.gained), ("fewer people see", lists.lost)):
        if items:
            rows = [(one.item_id, one.title or "", f"{one.before:,}", f"{one.after:,}") for one in items]
            run.console.table(["item", "title", ">before", ">after"], rows, title=f"\n{title}")
    groups = [(one.dimension, one.value, f"{one.people:,}", f"{one.changed:,}") for one in lists.groups]
    run.console.table(["people by", "", ">people", ">differ"], groups, title="\nwhose lists differ")
    if lists.causes is not None and lists.causes.parts:
        parts = [(one.part, f"{one.share:+.0%}") for one in lists.causes.parts]
        title = f"\nwhich part of the score did it, at {lists.causes.exchanges:,} places"
        run.console.table(["part", ">share"], parts, title=title)
    judged = [(one.dimension, one.value, f"{one.people:,}", *_quality(one)) for one in found.quality.groups]
    title = f"\nby what {found.quality.people:,} people took after both were made: NDCG@10"
    run.console.table(["people by", "", ">people", ">before", ">after", "difference", ""], judged, title=title)


_OUTCOMES = {"better": "better", "worse": "worse", "open": "cannot tell", "too_few": "too few to tell"}


def _quality(group: "GroupQuality") -> tuple[str, str, str, str]:
    if not group.metrics:
        return "", "", "", _OUTCOMES[group.outcome]
    one = group.metrics[0]
    between = f"{one.low:+.4f} to {one.high:+.4f}"
    return f"{one.before:.4f}", f"{one.after:.4f}", between, _OUTCOMES[group.outcome]


@app.command()
@command()
def push(
    run: Session,
    generation: GenerationArgument = None,
    to: Annotated[
        str | None,
        option("Server, or nodes of a cluster; default: index.url.", "--to", "--index", metavar="URL,URL"),
    ] = None,
    replace: Annotated[
        bool, option("Take the place of what is live even if it has none of these items.", "--replace")
    ] = False,
    cluster: ClusterOption = None,
) -> None:
    """Publish a generation on a Qdrant server: a new collection, proved before it goes live.

    A push that was killed goes on where it was. The key is read from QDRANT_API_KEY.

    Example: [bold]molar index push --to http://localhost:6333[/]
    """
    report = run.shop().push(generation, to=to, replace=replace, cluster=cluster)
    if run.document(report.to_dict()):
        return
    people = "users stay in the workspace" if report.users is None else f"{report.users:,} users"
    run.console.line(f"generation {report.generation}: {report.items:,} items, {people}")
    if report.up_to_date:
        run.console.line(f"up to date: {report.alias} at {report.url} names {report.collection}")
        return
    rate = f", {report.sent / report.seconds:,.0f} a second" if report.sent and report.seconds else ""
    run.console.line(f"sent {report.sent:,} points in {report.seconds:.1f} s{rate}")
    run.console.line(f"live: {report.alias} at {report.url} names {report.collection}")


@app.command()
@command()
def prune(
    run: Session,
    keep: Annotated[
        int | None, option("Older collections that stay; default: index.keep of molar.toml.", min=0)
    ] = None,
    index: IndexOption = None,
) -> None:
    """Remove what only going back would need: vectors of former encoders here, older collections on a server.

    With the collections goes what failed pushes left there.

    Example: [bold]molar index prune[/]

    Example: [bold]molar index prune --index http://localhost:6333 --keep 1[/]
    """
    removed = run.shop().prune(keep, index=index)
    if run.document({"removed": removed}):
        return
    run.console.line(*([f"removed {name}" for name in removed] or ["nothing to remove"]))


@app.command()
@command()
def size(
    run: Session,
    items: Annotated[
        str, typer.Option(metavar="N,N", help="How many items, separated by commas.")
    ] = "1000000,10000000,100000000",
    generation: GenerationArgument = None,
) -> None:
    """Reckon what a catalogue like this one would take on a server, for several numbers of items.

    Example: [bold]molar index size --items 2000000[/]
    """
    from molar_indexes.server.sizing import PER_ITEM, SLACK, TOTALS, per_item, totals

    forecast = run.shop().size(_counts(items), generation=generation)
    if run.document(forecast.to_dict()):
        return
    run.console.table(PER_ITEM, per_item(forecast.footprint), title="bytes per item")
    run.console.table(
        TOTALS, totals(forecast.footprint, forecast.items), title=f"\none copy, {SLACK:g} times the sum of the above"
    )


def _counts(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(count) for count in text.replace("_", "").split(","))
    except ValueError as error:
        hint = "for example --items 1000000,10000000"
        raise SettingsError(f"--items {text} names no numbers of items", hint) from error
