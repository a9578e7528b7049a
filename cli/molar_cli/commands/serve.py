"""`molar serve`."""

from typing import Annotated

from molar_cli.options import option
from molar_cli.session import Session, command


@command()
def serve(
    run: Session,
    host: Annotated[str | None, option("Address to listen on; default: 127.0.0.1.", metavar="HOST")] = None,
    port: Annotated[int | None, option("Port; default: 8080, 0: any that is free.", metavar="PORT")] = None,
    workers: Annotated[
        int | None, option("Processes that answer; default: 1, about one for each core is best.", metavar="N")
    ] = None,
) -> None:
    """Answer over HTTP: recommendations, searches and events, from the live generation and all that happened since.

    Merchandisers and managers look at the same at /studio.

    Ctrl-C or SIGTERM ends it, once the answers under way are through. Without keys it answers this machine alone;
    `molar keys add` makes one.

    Example: [bold]molar serve[/]

    Example: [bold]molar serve --host 0.0.0.0 --port 80 --workers 4[/]
    """
    from molar_serving.server import serve as listen

    shop = run.shop()

    def listening(address: str) -> None:
        studio = f"{address}/studio" if shop.settings.serve.studio else None
        if not run.document({"address": address, "studio": studio, "workspace": str(run.root)}):
            pages = "" if studio is None else "; for people: /studio"
            run.console.line(f"{address}, of the workspace {run.root}{pages}")

    listen(shop, listening, host=host, port=port, workers=workers)
