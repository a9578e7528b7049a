"""A catalogue of a made-up size: building, candidate recall, latency and memory, beside other ways to search it.

    python bench/scale.py [--items 100000] [--dim 128] [--users 1000] [--samples 500] [--folder .work/bench/scale]

Items have vectors as `molar align` makes them: two parts of one length, in clusters, their spectra falling off as those
of factors do, and one number for popularity; twenty partners each; a title of eight words, a brand, a category, a price
and a year. People like a few clusters. Everything is published as `molar align` would publish it, with a second stage
of random weights, which costs what a trained one does. A generation that is there already is used again.
"""

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

import numpy as np
import query
from rich.console import Console
from rich.table import Table
from scipy.sparse import csr_matrix
from stages import Stages

from molar_indexes.equal_lengths import longest
from molar_indexes.generations import KIND, publish
from molar_indexes.item_store import Extras
from molar_indexes.rebuild import SAMPLE, Whitened
from molar_indexes.recommender import Recommender
from molar_indexes.records import sparse_rows
from molar_indexes.users import UserRecord
from molar_indexes.what_if import Variation, WhatIf
from molar_retrieval import columns, rng
from molar_retrieval.data.text_features import bm25
from molar_retrieval.ranking.candidates import MOST_SCANNED
from molar_retrieval.ranking.explanations import ContentKNNWeights, Origins
from molar_retrieval.ranking.index_protocol import IndexItem, IndexSpec, Spans, SparseVector
from molar_retrieval.ranking.item_store import ItemStore
from molar_retrieval.ranking.reranker import CANDIDATES, Reranker, names
from molar_retrieval.workspace.artefacts import Workspace

_CLUSTER = 500
_NEIGHBORS = 20
_HISTORY = 60
_CONTENT = 64
_CF = 32
_NUMBERS = {"price": (50.0, 20.0), "year": (2015.0, 5.0)}


@dataclass(frozen=True)
class Made:
    """A made-up catalogue and its people."""

    items: np.ndarray
    content: np.ndarray
    users: np.ndarray
    histories: np.ndarray


def made(items: int, dim: int, users: int) -> Made:
    """Vectors of items and users, and what users had."""
    random = rng.generator(0, "scale", items, dim)
    spectrum = ((np.arange(dim - 1) % (dim // 2) + 1.0) ** -0.5).astype(np.float32)
    clusters = -(-items // _CLUSTER)
    own = np.arange(items) // _CLUSTER
    vectors = np.zeros((items, dim), np.float32)
    vectors[:, :-1] = (random.standard_normal((clusters, dim - 1), np.float32) * spectrum)[own]
    vectors[:, :-1] += random.standard_normal((items, dim - 1), np.float32) * spectrum
    for part in (slice(0, dim // 2), slice(dim // 2, dim - 1)):
        vectors[:, part] /= np.linalg.norm(vectors[:, part], axis=1, keepdims=True)
    vectors[:, -1] = np.minimum(random.pareto(1, items), 1000) / 1000
    content = random.standard_normal((items, _CONTENT)).astype(np.float32)
    content += random.standard_normal((clusters, _CONTENT)).astype(np.float32)[own]
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    liked = random.integers(0, clusters, (users, 4))
    chosen = np.take_along_axis(liked, random.integers(0, 4, (users, _HISTORY)), 1)
    histories = np.minimum(chosen * _CLUSTER + random.integers(0, _CLUSTER, (users, _HISTORY)), items - 1)
    people = vectors[histories].mean(axis=1)
    people[:, :-1] += 0.1 * random.standard_normal((users, dim - 1), np.float32) * spectrum
    people[:, -1] = 0.2
    return Made(vectors, content, people, histories)


def mapped(made: Made, folder: Path) -> Made:
    """The same, what is known of items mapped from files, as an alignment's arrays are when it is published."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in ("items", "content"):
        np.save(folder / f"{name}.npy", getattr(made, name))
        found[name] = np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r"))
    return replace(made, **found)


def generation(folder: Path, made: Made, graph: dict[str, int]) -> tuple[Workspace, Stages]:
    """The catalogue as a published generation, and what that took."""
    count, dim = made.items.shape
    folder.mkdir(parents=True, exist_ok=True)
    workspace = Workspace.for_catalogue(folder, folder)
    noted = folder / "seconds.json"
    if workspace[KIND].current is not None and noted.exists():
        return workspace, Stages.of(json.loads(noted.read_text("utf-8")))
    stages = Stages()
    stages.start("whitening", None)
    turned = Whitened.of(made.items, made.users[:SAMPLE]) if made.items.size > MOST_SCANNED else None
    beside = {} if turned is None else {columns.WHITENED: turned.longest}
    stages.finish()
    spec = IndexSpec(
        {columns.ALIGNED: dim, columns.CONTENT: _CONTENT, columns.ALS: _CF, **dict.fromkeys(beside, dim)},
        {"title": "keyword", "brand": "keyword", "category": "keyword", "price": "float", "year": "integer"},
        sparse=(columns.ITEM_WEIGHTS, columns.WORDS),
        lengths={columns.ALIGNED: longest(made.items), **beside},
        **graph,
    )
    parts = {"id_tower": (0, dim // 2), "content_knn": (dim // 2, dim - 1), "popularity": (dim - 1, dim)}
    sparse_parts = {"ease": (0, count)}
    random = rng.generator(0, "scale", "numbers", count)
    numbers = random.standard_normal((count, len(_NUMBERS))).astype(np.float32)
    extras = Extras(
        origins=Origins({"text": (0, _CONTENT)}, {}, ContentKNNWeights(0.9, 20)),
        support=np.full(count * _NEIGHBORS, 9, np.int32),
        numbers=numbers,
        reranker=_second_stage(spec, parts, sparse_parts),
        whitening=None if turned is None else turned.users,
    )
    stages.start("words", None)
    items = _items(made, numbers, bm25(_titles(count)), turned)
    stages.finish()
    del turned  # nor does what publishes an alignment keep it: items do, until the last of them has passed
    publish(
        workspace,
        backend="edge",
        spec=spec,
        items=items,
        users=_users(made),
        popular=[(row, 1) for row in range(10)],
        inputs={},
        parts=parts,
        sparse_parts=sparse_parts,
        extras=extras,
        progress=stages,
    ).close()
    stages.finish()
    noted.write_text(json.dumps(stages.noted()), "utf-8")
    return workspace, stages


def _titles(count: int) -> Iterator[str]:
    """Of eight words each, some of which many have and most few."""
    random = rng.generator(0, "scale", "titles", count)
    for _ in range(0, count, _CLUSTER):
        for ranks in np.minimum(random.pareto(0.7, (_CLUSTER, 8)), 1e6).astype(np.int64).tolist():
            yield " ".join(f"word{rank}" for rank in ranks)


def _second_stage(spec: IndexSpec, parts: Spans, sparse_parts: Spans) -> Reranker:
    """One of the shape that training gives it."""
    nothing = np.zeros((1, 1), np.float32)
    tensors = dict.fromkeys(("dense", "known", "cold_start", "content", "als", "numbers"), nothing)
    tensors |= {f"item_item.{name}": nothing for name in ("starts", "items", "values", "support")}
    features = names(ItemStore.from_tensors(tensors, parts, sparse_parts), list(_NUMBERS))
    random, size, hidden = rng.generator(0, "scale", "second stage"), len(features), 16
    shapes = {"hidden": (4, size, hidden), "bias": (4, hidden), "out": (4, hidden), "skip": (4, size)}
    weights = {name: 0.1 * random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    one = np.ones(size, np.float32)
    return Reranker(features, _NUMBERS, 0 * one, one, *weights.values(), np.ones(4, np.float32))


def _items(made: Made, numbers: np.ndarray, words: csr_matrix, turned: Whitened | None) -> Iterator[IndexItem]:
    count = len(made.items)
    random = rng.generator(0, "scale", "items", count)
    whitened = repeat(None) if turned is None else turned.rows()
    for row, own_words, near in zip(range(count), sparse_rows(words), whitened, strict=False):
        first = row - row % _CLUSTER
        neighbors = np.unique(random.integers(first, min(first + _CLUSTER, count), 2 * _NEIGHBORS))[:_NEIGHBORS]
        weights = random.random(len(neighbors)).astype(np.float32)
        vectors = {
            columns.ALIGNED: made.items[row],
            columns.CONTENT: made.content[row],
            columns.ALS: made.items[row, :_CF],
            **({} if near is None else {columns.WHITENED: near}),
        }
        payload = {
            "title": f"Item number {row}",
            "brand": f"brand {row // _CLUSTER % 400}",
            "category": f"category {row // _CLUSTER % 40}",
            "price": 50 + 20 * float(numbers[row, 0]),
            "year": int(2015 + 5 * numbers[row, 1]),
        }
        sparse = {columns.ITEM_WEIGHTS: SparseVector(neighbors, weights), columns.WORDS: own_words}
        yield IndexItem(row, f"item-{row}", vectors, payload, sparse)


def _users(made: Made) -> Iterator[UserRecord]:
    for number, (vector, history) in enumerate(zip(made.users, made.histories, strict=True)):
        had, times = np.unique(history, return_counts=True)
        yield UserRecord(
            f"user-{number}",
            vector,
            history,
            SparseVector(had.tolist(), (0.1 * times).tolist()),
            times=np.zeros(len(history), np.int64),
        )


def near(rows: Sequence[int], wanted: Sequence[int]) -> float:
    """Share of the wanted ones that were found."""
    return len(set(rows) & set(wanted)) / len(wanted)


Search = Callable[[np.ndarray, list[int]], Sequence[int]]


def measured(search: Search, made: Made, exact: Sequence[list[int]]) -> tuple[float, float, float]:
    """Recall of the exact lists, and median and 99th percentile of a search in milliseconds."""
    found, taken = [], []
    asked = [(made.users[number], made.histories[number].tolist(), best) for number, best in enumerate(exact)]
    for vector, hidden, _ in asked[:20]:
        search(vector, hidden)
    for vector, hidden, best in asked:
        began = time.perf_counter()
        rows = search(vector, hidden)
        taken.append(1000 * (time.perf_counter() - began))
        found.append(near(rows, best))
    return statistics.fmean(found), float(np.median(taken)), float(np.quantile(taken, 0.99))


def scan(made: Made) -> Search:
    """An exact scan in NumPy, seen items hidden."""

    def search(vector: np.ndarray, hidden: list[int]) -> list[int]:
        scores = made.items @ vector
        scores[hidden] = -np.inf
        best = np.argpartition(-scores, CANDIDATES)[:CANDIDATES]
        return best[np.argsort(-scores[best])].tolist()

    return search


def faiss_search(made: Made) -> tuple[Search, float]:
    """HNSW of faiss with twice the edges and candidates, and seconds of processors that it took to build."""
    import faiss

    began = time.process_time()
    index = faiss.IndexHNSWFlat(made.items.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 256
    index.add(made.items)
    seconds = time.process_time() - began
    faiss.omp_set_num_threads(1)

    def search(vector: np.ndarray, hidden: list[int]) -> list[int]:
        unseen = faiss.IDSelectorNot(faiss.IDSelectorBatch(hidden))
        parameters = faiss.SearchParametersHNSW(sel=unseen, efSearch=512)
        return index.search(vector[None], CANDIDATES, params=parameters)[1][0].tolist()

    return search, seconds


def client_search(made: Made) -> tuple[Search, float]:
    """The in-process mode of qdrant-client, which scans in NumPy."""
    from qdrant_client import QdrantClient, models

    began = time.process_time()
    client = QdrantClient(":memory:")
    size = models.VectorParams(size=made.items.shape[1], distance=models.Distance.DOT)
    client.create_collection("items", vectors_config=size)
    client.upload_collection("items", vectors=made.items, ids=range(len(made.items)))
    seconds = time.process_time() - began

    def search(vector: np.ndarray, hidden: list[int]) -> list[int]:
        seen = models.Filter(must_not=[models.HasIdCondition(has_id=hidden)])
        found = client.query_points("items", query=vector.tolist(), limit=CANDIDATES, query_filter=seen)
        return [int(point.id) for point in found.points]

    return search, seconds


def memory() -> float:
    """Resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def size(folder: Path) -> float:
    """Of all files in a folder, in MB."""
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file()) / 2**20


Told = Callable[[str, Search, float | None], None]


def telling(made: Made, samples: int) -> tuple[list[list[str]], Told]:
    """Lines that grow, and what measures a search and appends one."""
    exact = [list(scan(made)(made.users[n], made.histories[n].tolist())) for n in range(samples)]
    lines: list[list[str]] = []

    def told(name: str, search: Search, built: float | None) -> None:
        recall, middle, worst = measured(search, made, exact)
        seconds = "" if built is None else f"{built:.0f}"
        lines.append([name, f"{recall:.4f}", f"{middle:.2f}", f"{worst:.2f}", seconds])
        print(*lines[-1], sep="  ", flush=True)

    return lines, told


def bare_graphs(made: Made, root: Path, told: Told) -> None:
    """Graphs of the items turned towards users, by several kinds of numbers, built on one core."""
    turned = Whitened.of(made.items, made.users[:SAMPLE])
    assert turned is not None
    for kind in ("none", "scalar", "rotated", "binary"):
        variation = Variation(m=IndexSpec.m, ef_construct=IndexSpec.ef_construct, ef=1024, quantisation=kind)
        with tempfile.TemporaryDirectory(dir=root) as folder:
            began = time.process_time()
            with WhatIf(Path(folder), made.items @ turned.items, variation) as bare:
                built = time.process_time() - began
                told(
                    f"bare graph, quantisation {kind}, {size(Path(folder)):,.0f} MB",
                    lambda vector, hidden, bare=bare: bare.search((vector @ turned.users).tolist(), CANDIDATES, hidden),
                    built,
                )


def engines(made: Made, workspace: Workspace, samples: int, most_in_client: int) -> list[list[str]]:
    """200 candidates by the dense vector alone, seen items hidden, every way; seconds of processors that built it."""
    lines, told = telling(made, samples)
    with Recommender.open(workspace.root) as recommender:
        index, table = recommender.generation.index, recommender.generation.table.items
        told(
            "molar's index (embedded Qdrant)",
            lambda vector, hidden: [r for r, _ in index.top(*table.asked(vector.tolist()), CANDIDATES, exclude=hidden)],
            None,
        )
    told("exact scan (NumPy)", scan(made), None)
    try:
        told("faiss HNSW", *faiss_search(made))
    except ImportError:
        print("faiss is not installed: pip install faiss-cpu")
    if len(made.items) <= most_in_client:
        told("qdrant-client, in process", *client_search(made))
    bare_graphs(made, workspace.root, told)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--folder", type=Path, default=Path(".work/bench/scale"))
    parser.add_argument("--client", type=int, default=100_000, help="most items that qdrant-client is tried with")
    parser.add_argument("--m", type=int, default=IndexSpec.m, help="edges of the graph per node")
    parser.add_argument("--ef-construct", type=int, default=IndexSpec.ef_construct, help="candidates while it is built")
    parser.add_argument("--queries-only", action="store_true", help="leave out the other engines")
    parser.add_argument("--graphs-only", action="store_true", help="only graphs by several kinds of numbers")
    arguments = parser.parse_args()
    data = mapped(made(arguments.items, arguments.dim, arguments.users), arguments.folder)
    graph = {"m": arguments.m, "ef_construct": arguments.ef_construct}
    if arguments.graphs_only:
        bare_graphs(data, arguments.folder, telling(data, min(arguments.samples, arguments.users))[1])
        return
    folder = arguments.folder / "-".join(map(str, (arguments.items, arguments.dim, *graph.values())))
    workspace, stages = generation(folder, data, graph)
    console = Console(highlight=False, width=110)
    console.print(stages.table("publishing", arguments.items))
    seconds = sum(took.seconds for took in stages.took.values())
    title = f"{arguments.items:,} items of {arguments.dim} dimensions, {os.cpu_count()} cores; "
    title += f"published in {seconds:.0f} s, {size(folder):,.0f} MB on disk"
    samples = min(arguments.samples, arguments.users)
    answers = Table(title=title, title_justify="left", box=None)
    for column in ("molar", "p50 ms", "p99 ms", "CPU ms"):
        answers.add_column(column, justify="left" if column == "molar" else "right")
    before = memory()
    for name, took in query.in_process(folder, samples).items():
        answers.add_row(name, *(f"{milliseconds:.2f}" for milliseconds in took))
    answers.add_row("candidates that are among the best sums", f"{query.candidate_recall(folder, 100):.4f}", "")
    answers.add_row("memory that queries took, MB", f"{memory() - before:,.0f}", "")
    whole = query.processes(folder, "user-0", 7)
    for name, (taken, used) in whole.items():
        answers.add_row(f"{name}, process, {used:.0f} MB", f"{1000 * taken:.0f}", "")
    console.print(answers)
    if not arguments.queries_only:
        table = Table(title=f"200 candidates by the dense vector, {title}", title_justify="left", box=None)
        for column in ("engine", "recall", "p50 ms", "p99 ms", "built in s"):
            table.add_column(column, justify="left" if column == "engine" else "right")
        for line in engines(data, workspace, samples, arguments.client):
            table.add_row(*line)
        console.print(table)


if __name__ == "__main__":
    main()
