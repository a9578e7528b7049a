"""Throughput of `molar embed` against a bare loop over the same texts and already decoded photos.

    python bench/embedding.py [CATALOGUE] [--items 600] [--rounds 3] [--model builtin] [--batch-size 32]
                              [--threads N] [--json]

Both run with the same loaded encoder, in the same batches, alternating. The time of `molar embed` is that of the whole
call (looking for changes, reading, decoding, writing, publishing), without loading the encoder.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import pyarrow.parquet as pq

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.images import open_image
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.embedding import embed
from molar_retrieval.embedding.content_vectors import scan, texts_and_photos
from molar_retrieval.embedding.pipeline import batches_of
from molar_retrieval.encoders import registry
from molar_retrieval.encoders.base import Encoder, EncoderInput, EncoderPlan
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import EmbedSettings

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = Path(os.environ.get("MOLAR_DATA", ROOT.parent / "shared" / "data")) / "ml-1m"
TARGET = 0.85


def excerpt(catalogue: Path, target: Path, items: int) -> None:
    """A catalogue of items at even distances of another one."""
    table = pq.read_table(catalogue / "items.parquet")
    step = max(1, table.num_rows // items)
    table = table.take(list(range(0, table.num_rows, step))[:items])
    for image in table.column("image").drop_null().to_pylist():
        if (catalogue / image).is_file():
            (target / image).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(catalogue / image, target / image)
    pq.write_table(table, target / "items.parquet")


def decoded(workspace: Workspace, encoder: Encoder, batch_size: int) -> list[list[EncoderInput]]:
    """The batches that `molar embed` would make, in memory."""
    catalogue = Catalogue(*workspace["catalogue"].require())
    scanned = scan(catalogue, encoder.info)
    texts = texts_and_photos(catalogue, range(len(catalogue)))
    batches = []
    for rows in batches_of(scanned, (scanned.lengths > 0) | scanned.has_image, batch_size):
        pairs = [texts[row] for row in rows.tolist()]
        batches.append([EncoderInput(t, open_image(catalogue.folder, i) if i else None) for t, i in pairs])
    return batches


def bare(encoder: Encoder, batches: Sequence[Sequence[EncoderInput]]) -> float:
    started = perf_counter()
    for batch in batches:
        encoder.encode(batch)
    return perf_counter() - started


def piped(workspace: Workspace, settings: EmbedSettings, encoder: Encoder) -> tuple[float, dict[str, float]]:
    shutil.rmtree(workspace.root / "content", ignore_errors=True)
    started = perf_counter()
    report = embed(workspace, settings, planner=lambda _: EncoderPlan(encoder.info, lambda: encoder))
    return perf_counter() - started, dict(report.seconds)


def measure(catalogue: Path, settings: EmbedSettings, items: int, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        shop = Path(folder) / "catalogue"
        shop.mkdir()
        excerpt(catalogue, shop, items)
        workspace = Workspace.for_catalogue(Path(folder) / "workspace", shop)
        prepare_catalogue(shop, workspace)
        encoder = registry.load(settings)
        batches = decoded(workspace, encoder, settings.batch_size)
        bare(encoder, batches[-2:])  # warm up
        runs = []
        for _ in range(rounds):
            loop = bare(encoder, batches)
            whole, stages = piped(workspace, settings, encoder)
            runs.append({"bare": loop, "embed": whole, "ratio": loop / whole, "stages": stages})
    count = sum(map(len, batches))
    middle = sorted(runs, key=lambda run: run["ratio"])[len(runs) // 2]
    return {
        "catalogue": str(catalogue),
        "model": settings.model,
        "items": count,
        "photos": sum(item.image is not None for batch in batches for item in batch),
        "bare_items_per_second": count / statistics.median(run["bare"] for run in runs),
        "embed_items_per_second": count / statistics.median(run["embed"] for run in runs),
        "ratio": middle["ratio"],
        "ratios": [run["ratio"] for run in runs],
        "target": TARGET,
        "stages": middle["stages"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalogue", type=Path, nargs="?", default=DEFAULT)
    parser.add_argument("--items", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--batch-size", type=int, default=EmbedSettings().batch_size)
    parser.add_argument("--threads", type=int, help="of torch; busy cores and spinning threads spoil a measurement")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not arguments.catalogue.is_dir():
        parser.error(f"there is no catalogue {arguments.catalogue}: name one, or set MOLAR_DATA")
    if arguments.threads:
        import torch

        torch.set_num_threads(arguments.threads)
    settings = EmbedSettings(model=arguments.model, batch_size=arguments.batch_size)
    result = measure(arguments.catalogue, settings, arguments.items, arguments.rounds)
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"{result['items']} items ({result['photos']} with photo) of {result['catalogue']}, {result['model']}")
    print(f"bare loop    {result['bare_items_per_second']:8.1f} items/s")
    print(f"molar embed  {result['embed_items_per_second']:8.1f} items/s")
    ratios = ", ".join(f"{ratio:.3f}" for ratio in result["ratios"])
    print(f"ratio        {result['ratio']:8.3f}  (target {TARGET}; rounds: {ratios})")
    for stage, seconds in result["stages"].items():
        print(f"  {stage:10s} {seconds:8.3f} s")


if __name__ == "__main__":
    main()
