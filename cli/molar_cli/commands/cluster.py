"""`molar cluster status`."""

from typing import TYPE_CHECKING, Annotated

import typer

from molar_cli.options import option
from molar_cli.session import Session, command

if TYPE_CHECKING:
    from molar.clustering import ClusterStatus

app = typer.Typer(help="A Ray cluster that does large jobs.", no_args_is_help=True)


@app.callback()
def _main() -> None:
    pass


@app.command()
@command()
def status(
    run: Session,
    cluster: Annotated[
        str, option("ray://HOST:10001; default: MOLAR_CLUSTER_ADDRESS, or the user configuration.", metavar="ADDRESS")
    ] = "auto",
) -> None:
    """Say which machines the cluster has, and whether it asks for a token.

    Example: [bold]molar cluster status[/]
    """
    told = run.shop().cluster.status(cluster)
    if not run.document(told.to_dict()):
        _print(run, told)


def _print(run: Session, told: "ClusterStatus") -> None:
    if told.url is None:
        run.console.line("no cluster is named: --cluster ray://HOST:10001, or MOLAR_CLUSTER_ADDRESS in the environment")
        return
    if not told.answers:
        run.console.line(f"{told.url} does not answer")
        run.console.note("start it on its head with `ray start --head`, or correct the address")
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
