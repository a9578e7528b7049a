"""`molar embed`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molar_cli.options import (
    DebugOption,
    JsonOption,
    PartOption,
    QuietOption,
    SettingsOption,
    TrustOption,
    WorkspaceOption,
)
from molar_cli.session import session
from molar_retrieval.errors import SettingsError

if TYPE_CHECKING:
    from molar_retrieval.embedding import EmbedForecast, EmbedReport


def embed(
    catalog: Annotated[
        Path, typer.Argument(help="Folder with items.parquet, .csv or .jsonl and images/.", show_default=False)
    ],
    where: PartOption = None,
    model: Annotated[
        str | None,
        typer.Option(help="builtin, builtin-multilingual, a local folder or a hub name.", show_default=False),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit or tag of a hub model.", show_default=False)] = None,
    dim: Annotated[
        int | None, typer.Option(help="Keep this many leading dimensions (MRL).", show_default=False)
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Items per batch.", show_default=False)] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps.", show_default=False)] = None,
    offline: Annotated[
        bool | None, typer.Option("--offline", help="Never ask a model hub.", show_default=False)
    ] = None,
    trust_remote_code: TrustOption = False,
    vectors: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Vectors made elsewhere: Parquet with item_id and vector.", show_default=False
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Predict time and disk, write nothing.")] = False,
    settings: SettingsOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Turn each item's photo and words into a vector; only new and changed items are encoded.

    Example: [bold]molar embed catalog/[/]

    Example, to start with one category: [bold]molar embed catalog/ --where "category = Shoes"[/]

    Example: [bold]molar embed catalog/ --model Qwen/Qwen3-VL-Embedding-2B --device cuda[/]
    """
    with session(workspace, json=json, quiet=quiet, debug=debug) as run:
        shop = run.shop(catalog, settings)
        if dry_run and vectors is not None:
            raise SettingsError("--dry-run predicts encoding, and --vectors brings what is encoded", "leave one out")
        outcome: EmbedForecast | EmbedReport
        if dry_run:
            outcome = shop.forecast(
                model=model,
                revision=revision,
                dim=dim,
                batch_size=batch_size,
                device=device,
                offline=offline,
                where=where,
                trust_remote_code=trust_remote_code,
            )
        else:
            outcome = shop.embed(
                model=model,
                revision=revision,
                dim=dim,
                batch_size=batch_size,
                device=device,
                offline=offline,
                where=where,
                vectors=vectors,
                trust_remote_code=trust_remote_code,
            )
        if json:
            run.console.document(outcome.to_dict())
            return
        for line in outcome.lines():
            run.console.line(line)
        if not dry_run:
            for note in outcome.notes:
                run.console.note(note)
