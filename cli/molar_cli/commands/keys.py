"""`molar keys add|list|revoke`."""

from typing import Annotated

import typer

from molar_cli.options import option
from molar_cli.session import Session, command

app = typer.Typer(help="Who may ask `molar serve`: make, list and revoke keys.", no_args_is_help=True)
_Name = Annotated[str, typer.Argument(metavar="NAME", help="Who has it, as web-shop.", show_default=False)]


@app.command()
@command()
def add(
    run: Session,
    name: _Name,
    scopes: Annotated[
        str, option("What it allows, with commas: answer, events, catalogue, rules, studio, admin.", metavar="SCOPES")
    ] = "answer,events",
    role: Annotated[
        str | None, option("For the studio instead: viewer, merchandiser or admin.", metavar="ROLE")
    ] = None,
    origin: Annotated[
        list[str] | None,
        option("A page whose browsers may send it, as https://shop.example; may be given often.", metavar="ORIGIN"),
    ] = None,
    rate: Annotated[
        float | None,
        option("Most requests a second; of a key with origins: from one address, by default 10.", metavar="N"),
    ] = None,
    signing: Annotated[bool, option("Also for clients that sign their requests.", "--signing")] = False,
) -> None:
    """Make a key and print it; only a hash of it is kept, so it is told this once.

    Example: [bold]molar keys add backend --scopes answer,events,catalogue[/]

    Example: [bold]molar keys add anna --role merchandiser[/]

    Example: [bold]molar keys add page --origin https://shop.example --rate 20[/]
    """
    from molar_serving.auth import Keyring, signing_token
    from molar_serving.studio.roles import scopes_of

    chosen = [scope.strip() for scope in scopes.split(",") if scope.strip()] if role is None else scopes_of(role)
    key = Keyring(run.shop().opened().root).add(name, chosen, origins=origin or (), rate=rate, signing=signing)
    signed = {"signing_token": signing_token(key)} if signing else {}
    if not run.document({"name": name, "key": key, **signed}):
        run.console.line(key)
        for token in signed.values():
            run.console.line(f"to sign with: {token}")
        run.console.note("keep it now: it is not shown again")


@app.command("list")
@command()
def list_(run: Session) -> None:
    """List the keys, without their secrets.

    Example: [bold]molar keys list[/]
    """
    from molar_serving.auth import Keyring

    keys = Keyring(run.shop().opened().root).keys().values()
    names = ("name", "scopes", "origins", "rate", "created")
    told = [{name: getattr(key, name) for name in names} | {"signing": bool(key.signing)} for key in keys]
    if not run.document({"keys": told}):
        rows = [
            [
                key.name,
                ", ".join(key.scopes),
                ", ".join(key.origins),
                "" if key.rate is None else f"{key.rate:g}",
                "yes" if key.signing else "",
            ]
            for key in keys
        ]
        run.console.table(("name", "scopes", "origins", ">per second", "signs"), rows)


@app.command()
@command()
def revoke(run: Session, name: _Name) -> None:
    """Revoke a key; the next request that brings it is refused.

    Example: [bold]molar keys revoke page[/]
    """
    from molar_serving.auth import Keyring

    Keyring(run.shop().opened().root).revoke(name)
    if not run.document({"revoked": name}):
        run.console.line(f"{name} is revoked")
