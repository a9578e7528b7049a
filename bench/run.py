"""`make bench`: every figure beside what it is compared to, in one run.

python bench/run.py [--data path/to/catalogue] [--user ID]
"""

import argparse
import os
from pathlib import Path

import embedding
import query
import ranking
import server
from rich.console import Console
from rich.table import Table

import molar
from molar_indexes.recommender import Recommender
from molar_retrieval.data.demo import write_demo_shop
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import EmbedSettings


def prepared(data: Path, root: Path) -> Workspace:
    """A workspace that can answer; speed does not depend on how well it was trained, so one epoch is enough."""
    shop = molar.open(data, workspace=root)
    shop.embed()
    shop.align(epochs=1)
    return shop.opened()


def main() -> None:
    parser = argparse.ArgumentParser(description="Benchmarks.")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--items", type=int, default=600, help="items of the throughput measurement")
    parser.add_argument("--runs", type=int, default=15)
    arguments = parser.parse_args()
    root = arguments.workspace or Path(".work/bench") / (arguments.data.name if arguments.data else "demo")
    data = arguments.data or root / "shop"
    if arguments.data is None:
        write_demo_shop(data)
    workspace = prepared(data, root)
    with Recommender.open(root) as recommender:
        batch = next(recommender.generation.users.batches())
        user = next(record.user_id for record in batch if len(record.history))
    table = Table(title=f"{data.name}, {os.cpu_count()} cores", title_justify="left", box=None)
    for column in ("what", "measured", "compared to", "ratio"):
        table.add_column(column, justify="left" if column in ("what", "compared to") else "right")
    throughput(table, workspace, arguments.items)
    latencies(table, root, user, arguments.runs)
    for row in ranking.rows(ranking.measure()):
        table.add_row(*row)
    for row in server.rows(workspace):
        table.add_row(*row)
    Console(highlight=False).print(table)
    Console(highlight=False).print(server.NOT_MEASURED)


def throughput(table: Table, workspace: Workspace, items: int) -> None:
    result = embedding.measure(workspace.catalogue, EmbedSettings(), items, rounds=3)
    piped, bare = result["embed_items_per_second"], result["bare_items_per_second"]
    table.add_row("embed, items/s", f"{piped:.1f}", f"bare encode loop {bare:.1f}", f"{result['ratio']:.2f}")
    for stage, seconds in result["stages"].items():
        table.add_row(f"  stage {stage}, s", f"{seconds:.2f}", "", "")


def latencies(table: Table, root: Path, user: str, runs: int) -> None:
    whole = query.processes(root, user, runs)
    (seconds, memory), (bare_seconds, bare_memory) = whole["molar query"], whole["bare script"]
    table.add_row(
        "molar query, process, s", f"{seconds:.3f}", f"bare script {bare_seconds:.3f}", f"{seconds / bare_seconds:.2f}"
    )
    table.add_row(
        "molar query, memory, MB", f"{memory:.0f}", f"bare script {bare_memory:.0f}", f"{memory / bare_memory:.2f}"
    )
    inside = query.in_process(root, 500)
    *served, (scan, exact) = inside.items()
    for name, took in served:
        for what, own, other in zip(("p50", "p99", "CPU"), took, exact, strict=True):
            table.add_row(f"{name}, {what} ms", f"{own:.2f}", f"{scan} {other:.2f}", f"{own / other:.2f}")
    table.add_row("200 candidates, recall of the best sums", f"{query.candidate_recall(root, 500):.4f}", "", "")
    table.add_row("molar recommend, users/s", f"{query.throughput(root):,.0f}", "", "")


if __name__ == "__main__":
    main()
