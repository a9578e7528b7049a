"""`molar cluster status`."""

from typing import Annotated

import typer

from molar_cli.options import option
from molar_cli.session import Session, command

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
    ] = "cluster",
) -> None:
    """Say which machines the cluster has, and whether it asks for a token.

    Example: [bold]molar cluster status[/]
    """
    told = run.shop().cluster.status(cluster)
    if run.document(told.to_dict()):
        return
    if not told.answers:
        run.console.line(f"{told.url} does not answer")
        run.console.note("start it on its head with `ray start --head`, or correct the address")
        return
    run.console.line(told.url)
    rows = [
        (one.name, one.address, "" if one.alive else "gone", str(one.cpus), str(one.gpus), f"{one.memory / 1e9:.1f}")
        for one in told.nodes
    ]
    run.console.table(["machine", "address", "state", ">CPUs", ">GPUs", ">GB"], rows)
    if not told.asks_for_token:
        run.console.note("it asks for no token: whoever reaches its ports can run any program on it")
