"""`molar index list|verify|rollback|push|prune|size`."""

from typing import TYPE_CHECKING, Annotated

import typer

from molar_cli.options import DebugOption, IndexOption, JsonOption, QuietOption, SettingsOption, WorkspaceOption
from molar_cli.session import Session, session
from molar_retrieval.errors import SettingsError, StaleArtefactError

if TYPE_CHECKING:
    from molar_indexes.server.place import Server

app = typer.Typer(
    help="List, verify and roll back the generations of the index, here and on a server.", no_args_is_help=True
)
GenerationArgument = Annotated[str | None, typer.Argument(help="Default: the live one.", show_default=False)]
ToOption = Annotated[
    str | None, typer.Option("--to", "--index", metavar="URL", help="The server; default: index.url of molar.toml.")
]


@app.command("list")
def list_(
    index: IndexOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """List the generations, newest last, and the collections of a server; what is live is marked.

    Example: [bold]molar index list[/]
    """
    with session(workspace, json=json, quiet=quiet, debug=debug) as run:
        from molar_indexes.generations import list_generations

        found = list_generations(run.workspace())
        server = run.shop().server(index)
        there = [] if server is None else _collections(server)
        if json:
            served = {} if server is None else {"server": {"url": server.url, "collections": there}}
            run.console.document({"generations": [g.to_dict() for g in found], **served})
            return
        rows = [("→" if g.live else "", g.name, g.backend, f"{g.items:,}", f"{g.users:,}", g.created) for g in found]
        run.console.table(["", "generation", "backend", ">items", ">users", "made"], rows)
        if server is not None:
            shown = [
                ("→" if one["live"] else "", one["collection"], one["holds"], f"{one['points']:,}", one["state"])
                for one in there
            ]
            run.console.table(["", "collection", "holds", ">points", "state"], shown, title=f"\n{server.url}")


@app.command()
def verify(
    generation: GenerationArgument = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every byte, vector and user, and what it was made from.")
    ] = False,
    index: IndexOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Check that a generation is whole and belongs to the workspace's artefacts; with a server, as it answers there.

    Example: [bold]molar index verify --deep[/]
    """
    with session(workspace, json=json, quiet=quiet, debug=debug) as run:
        from molar_indexes.generations import open_generation
        from molar_indexes.verify import bytes_changed
        from molar_indexes.verify import verify as check

        server = run.shop().server(index)
        if deep and server is None and (damage := bytes_changed(run.workspace(), generation)):
            _tell_whole(run, generation or run.workspace()["generations"].require()[0].name, damage)
        if server is None:
            opened = open_generation(run.workspace(), generation)
        else:
            from molar_indexes.server.opening import open_served

            opened = open_served(run.workspace(), server, generation)
        with opened:
            problems = check(opened, run.workspace(), deep=deep, read=server is None)
            name = opened.name
        _tell_whole(run, name, problems, "" if server is None else f", at {server.url} as well")


def _tell_whole(run: Session, name: str, problems: list[str], where: str = "") -> None:
    """Say whether a generation is whole; ends the command where it is not."""
    if run.console.as_json:
        run.console.document({"generation": name, "problems": problems})
    elif not problems:
        run.console.line(f"generation {name} is whole{where}")
    if problems:
        raise StaleArtefactError(
            f"generation {name}: " + "; ".join(problems), "run `molar align` again, or `molar index rollback`"
        )


@app.command()
def rollback(
    generation: Annotated[str | None, typer.Argument(help="Default: the one before.", show_default=False)] = None,
    index: IndexOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Make an older generation the live one: on the server where one is named, else in the workspace.

    Example: [bold]molar index rollback[/]
    """
    with session(workspace, json=json, quiet=quiet, debug=debug) as run:
        server = run.shop().server(index)
        if server is not None:
            _roll_the_server(run, server, generation)
            return
        from molar_indexes.generations import rollback as roll

        live = roll(run.workspace(), generation)
        if json:
            run.console.document({"generation": live.name})
            return
        run.console.line(f"live: generation {live.name}")


@app.command()
def push(
    generation: GenerationArgument = None,
    to: ToOption = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of what is live even if it has none of these items.")
    ] = False,
    settings: SettingsOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Publish a generation on a Qdrant server: a new collection, proved before it goes live.

    A push that was killed goes on where it was. The key is read from QDRANT_API_KEY.

    Example: [bold]molar index push --to http://localhost:6333[/]
    """
    with session(workspace, json=json, quiet=quiet, debug=debug) as run:
        chosen = run.shop(settings=settings).settings_of_index(to)
        if chosen.url is None:
            raise SettingsError("no server is named", "molar index push --to http://host:6333, or [index] url")
        from molar_indexes.server.push import push as publish

        with run.console.progress() as progress:
            report = publish(run.workspace(), chosen, generation=generation, replace=replace, progress=progress)
        if json:
            run.console.document(report.to_dict())
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
def prune(
    keep: Annotated[
        int | None,
        typer.Option(min=0, help="Older collections that stay; default: index.keep of molar.toml.", show_default=False),
    ] = None,
    index: IndexOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Remove older collections from a server, and what failed pushes left there.

    Example: [bold]molar index prune --keep 1[/]
    """
    with session(workspace, json=json, quiet=quiet, debug=debug) as run:
        from molar_indexes.server.place import Server

        settings = run.shop().settings_of_index(index)
        server = Server.of(settings)
        if server is None:
            raise SettingsError("no server is named", "molar index prune --index http://host:6333, or [index] url")
        from molar_indexes.server.connect import connected
        from molar_indexes.server.published import prune as remove

        with connected(server.patient(_PATIENT)) as client:
            removed = remove(client, server, settings.keep if keep is None else keep)
        if json:
            run.console.document({"removed": removed})
            return
        for name in removed:
            run.console.line(f"removed {name}")
        if not removed:
            run.console.line("nothing to remove")


@app.command()
def size(
    items: Annotated[
        str, typer.Option(metavar="N,N", help="How many items, separated by commas.")
    ] = "1000000,10000000,100000000",
    generation: GenerationArgument = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Reckon what a catalogue like this one would take on a server, for several numbers of items.

    Example: [bold]molar index size --items 2000000[/]
    """
    with session(workspace, json=json, quiet=quiet, debug=debug) as run:
        from molar_indexes.generations import open_generation
        from molar_indexes.server.sizing import PER_ITEM, QUANTISATIONS, SLACK, TOTALS, per_item, shape_of, totals
        from molar_indexes.server.sizing import size_of as reckon

        counts = _counts(items)
        with open_generation(run.workspace(), generation) as opened:
            shape = shape_of(opened)
        if json:
            sizes = {
                count: {q: vars(reckon(shape, count, q)) | {"slack": SLACK} for q in QUANTISATIONS} for count in counts
            }
            run.console.document({"shape": shape.to_dict(), "bytes": sizes})
            return
        run.console.table(PER_ITEM, per_item(shape), title="bytes per item")
        run.console.table(TOTALS, totals(shape, counts), title=f"\none copy, {SLACK:g} times the sum of the above")


def _counts(text: str) -> tuple[int, ...]:
    try:
        counts = tuple(int(part) for part in text.replace("_", "").split(","))
    except ValueError:
        counts = ()
    if not counts or min(counts) < 1:
        raise SettingsError(f"--items {text} names no numbers of items", "for example --items 1000000,10000000")
    return counts


_PATIENT = 60.0
"""Seconds that removing or looking through collections may take a server."""


def _collections(server: "Server") -> list[dict[str, object]]:
    from molar_indexes.server.connect import connected
    from molar_indexes.server.published import published

    with connected(server) as client:
        found = [one for alias in (server.collection, server.people) for one in published(client, server, alias)]
    return [
        {
            "collection": one.name,
            "generation": one.passport.generation,
            "holds": one.passport.holds,
            "points": one.points,
            "live": one.live,
            "state": one.status if one.passport.whole else "unfinished",
        }
        for one in found
    ]


def _roll_the_server(run: Session, server: "Server", generation: str | None) -> None:
    from molar_indexes.server.connect import connected
    from molar_indexes.server.published import rollback as roll

    with connected(server.patient(_PATIENT)) as client:
        live = roll(client, server, generation)
    if run.console.as_json:
        run.console.document({"generation": live.passport.generation, "collection": live.name})
        return
    run.console.line(f"live: {server.collection} at {server.url} names {live.name}")
    kept = run.workspace()["generations"].root / live.passport.generation
    if not kept.exists():
        run.console.note(f"this workspace has no generation {live.passport.generation}, and cannot ask for it")
