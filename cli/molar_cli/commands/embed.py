"""`molar embed`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from molar_cli import options
from molar_cli.options import option
from molar_cli.session import Session, command
from molar_retrieval.errors import SettingsError

if TYPE_CHECKING:
    from molar_retrieval.embedding import EmbedForecast, EmbedReport


@command()
def embed(
    run: Session,
    catalog: options.CatalogueArgument,
    where: options.ConditionOption = None,
    model: Annotated[
        str | None, option("builtin, builtin-multilingual, gemma-3-270m, a local folder or a hub name.")
    ] = None,
    revision: options.RevisionOption = None,
    dim: Annotated[int | None, option("Keep this many leading dimensions (MRL).")] = None,
    batch_size: Annotated[int | None, option("Items per batch.")] = None,
    device: options.DeviceOption = None,
    offline: options.OfflineOption = None,
    trust_remote_code: options.TrustOption = False,
    vectors: Annotated[
        Path | None, option("Vectors made elsewhere: Parquet with item_id and vector.", metavar="FILE")
    ] = None,
    dry_run: Annotated[bool, option("Predict time and disk, write nothing.", "--dry-run")] = False,
    cluster: options.ClusterOption = None,
) -> None:
    """Turn each item's photo and words into a vector; only new and changed items are encoded.

    Example: [bold]molar embed catalog/[/]

    Example, to start with one category: [bold]molar embed catalog/ --where "category = Shoes"[/]

    Example: [bold]molar embed catalog/ --model Qwen/Qwen3-VL-Embedding-2B --device cuda[/]
    """
    if dry_run and vectors is not None:
        raise SettingsError("--dry-run predicts encoding, and --vectors brings what is encoded", "leave one out")
    if dry_run and cluster is not None:
        raise SettingsError(
            "--dry-run predicts what this machine does, and --cluster says who does it", "leave one out"
        )
    said: dict[str, Any] = {"model": model, "revision": revision, "dim": dim, "batch_size": batch_size}
    said |= {"device": device, "offline": offline, "where": where, "trust_remote_code": trust_remote_code}
    shop = run.shop(catalog)
    print_embedded(run, shop.forecast(**said) if dry_run else shop.embed(**said, vectors=vectors, cluster=cluster))


def print_embedded(run: Session, outcome: "EmbedForecast | EmbedReport") -> None:
    """Print what was encoded, or what encoding would take."""
    from molar_retrieval.embedding import EmbedReport

    if run.document(outcome.to_dict()):
        return
    run.console.line(*outcome.lines())
    if isinstance(outcome, EmbedReport):
        run.console.note(*outcome.notes)
