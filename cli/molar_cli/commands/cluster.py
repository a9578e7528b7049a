"""`molar cluster up|status|down`."""

from typing import TYPE_CHECKING, Annotated

import typer

from molar_cli.options import option
from molar_cli.session import Session, command

if TYPE_CHECKING:
    from molar.clustering import ClusterStatus

app = typer.Typer(help="Several machines, by Ray, for work that one would be long at.", no_args_is_help=True)


@app.callback()
def _main() -> None:
    pass


@app.command()
@command()
def up(
    run: Session,
    join: Annotated[
        bool, option("Join the machine on which this was run first, by the same workspace.", "--join")
    ] = False,
    host: Annotated[
        str | None, option("This machine's address for the others; default: that of its network.", metavar="ADDRESS")
    ] = None,
    port: Annotated[int, typer.Option(help="Where molar reaches the cluster.", min=1024, max=65535)] = 10001,
    gcs_port: Annotated[int, typer.Option(help="Where further machines reach it.", min=1024, max=65535)] = 6379,
    cpus: Annotated[int | None, option("How many of its CPUs; default: all.", min=1)] = None,
) -> None:
    """Give this machine to the cluster of the workspace; whoever uses it must have the token that lies there.

    Example: [bold]molar cluster up[/], then on the others [bold]molar cluster up --join[/]
    """
    told = run.shop().cluster.up(join=join, host=host, port=port, gcs_port=gcs_port, cpus=cpus)
    if not run.document(told.to_dict()):
        _print(run, told)
        run.console.note(f"use it: --on cluster, or from elsewhere --on {told.url}; traffic is not encrypted")


@app.command()
@command()
def status(
    run: Session,
    on: Annotated[
        str, option("ray://HOST:10001; default: the cluster of molar.toml, or of the workspace.", metavar="ADDRESS")
    ] = "auto",
) -> None:
    """Say which machines the cluster has, and whether it asks for a token.

    Example: [bold]molar cluster status[/]
    """
    told = run.shop().cluster.status(on)
    if not run.document(told.to_dict()):
        _print(run, told)


@app.command()
@command()
def down(run: Session) -> None:
    """Take this machine out of the cluster: its own processes end, and nothing else.

    Example: [bold]molar cluster down[/]
    """
    ended = run.shop().cluster.down()
    if not run.document({"ended": ended}):
        run.console.line("this machine has left the cluster" if ended else "this machine had no part in a cluster")


def _print(run: Session, told: "ClusterStatus") -> None:
    if told.url is None:
        run.console.line("no cluster: none is named in the settings, and none was begun for this workspace")
        return
    if not told.answers:
        run.console.line(f"{told.url} does not answer")
        run.console.note("`molar cluster up` begins it again")
        return
    run.console.line(told.url)
    rows = [
        (
            node.name,
            node.address,
            "" if node.alive else "gone",
            str(node.cpus),
            str(node.gpus),
            f"{node.memory / 1e9:.1f}",
        )
        for node in told.nodes
    ]
    run.console.table(["machine", "address", "state", ">CPUs", ">GPUs", ">GB"], rows)
    if not told.asks_for_token:
        run.console.note("it asks for no token: whoever reaches its ports can run any program on it")
