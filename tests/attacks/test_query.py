"""Requests, rules and lists of everybody."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from molar_cli.app import app
from molar_indexes import batch as indexes_batch
from molar_indexes.batch import recommend
from molar_indexes.generations import open_generation
from molar_indexes.recommender import Recommender
from molar_indexes.server.client import Client, Connection
from molar_indexes.server.config import ServerConfig
from molar_indexes.server.opening import served
from molar_indexes.server.push import publish
from molar_retrieval.errors import DataError, MolarError, RequestError, SettingsError
from molar_retrieval.ranking.filters import Equals, Not
from molar_retrieval.ranking.query import BatchQuery, Query
from molar_retrieval.ranking.results import Recommendations
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.jobs import ProcessRunner
from molar_retrieval.workspace.settings import IndexSettings, MolarSettings

FULL = os.environ.get("MOLAR_TEST_ATTACKS") == "full"
MIB = 1 << 20
MOLAR = Path(sys.executable).with_name("molar")


@pytest.fixture(scope="module")
def recommender(trained: Any) -> Iterator[Recommender]:
    with Recommender.open(trained.workspace) as opened:
        opened.query(trained.user, where="price > 1", explain=True, diversity=0.3)
        opened.search("red shoes", user_id=trained.user)
        opened.similar("SKU-0001")
        yield opened


def spent(work: Callable[[], Any]) -> tuple[Any, float, int]:
    """What comes of some work: its result or error, the seconds of this process that it took, and its most memory."""
    tracemalloc.start()
    began = time.process_time()
    try:
        result = work()
    except MolarError as error:
        result = error
    seconds, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return result, seconds, peak


@pytest.mark.parametrize(
    "k", [2**31, 10**5000, 1001, 0, -1, True, 1.5, float("nan"), "7", None], ids=lambda k: type(k).__name__
)
def test_no_number_of_items(trained: Any, recommender: Recommender, k: Any) -> None:
    """A request for more than 1,000 items is refused, and none takes memory by their number."""
    asks: list[Callable[[], Any]] = [
        lambda: recommender.query(trained.user, k=k),
        lambda: recommender.query(trained.new_user, k=k, fallback="popular"),
        lambda: recommender.query(session=["SKU-0001"], k=k),
        lambda: recommender.similar("SKU-0001", k=k),
        lambda: recommender.search("shoes", k=k),
        lambda: list(recommender.rank_many([], BatchQuery(k=10_001 if k == 1001 else k))),
        lambda: recommend(trained.workspace, Path("nowhere/out"), k=10_001 if k == 1001 else k),
    ]
    for ask in asks:
        found, _, peak = spent(ask)
        assert isinstance(found, RequestError), ask
        assert len(found.message) < 200
        assert peak < 8 * MIB


def test_the_largest_number_of_items(trained: Any, recommender: Recommender) -> None:
    """A request for more items than the catalogue has is answered with these."""
    found, _, peak = spent(lambda: recommender.query(trained.user, k=1000, diversity=0.2, filter_seen=False))
    assert isinstance(found, Recommendations)
    assert len(found.items) == trained.items
    assert found.shortfall is not None
    assert peak < 32 * MIB


HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**31, 2**63, 10**400, -1]),
    st.floats(),
    st.binary(max_size=5),
    st.text(st.characters(exclude_categories=()), max_size=50),
    st.sampled_from(["(", "not ", "'", '"', "price > ", "price in (1,", "x", "\0", "日", "\x1b[2J", "/", ","]).flatmap(
        lambda part: st.sampled_from([1, 100, 5_000, 1_000_000]).map(lambda times: part * times)
    ),
    st.integers(1, 4000).map(lambda digits: "price > " + "9" * digits),
    st.sampled_from([20, 10_001, 300_000]).map(lambda count: [f"SKU-{n}" for n in range(count)]),
    st.lists(st.text(max_size=5) | st.integers() | st.none(), max_size=4),
    st.just(["SKU-0001"]),
    st.just({"SKU-0001": 1}),
    st.just(object()),
    st.integers(1, 300).map(lambda deep: nested(deep)),
    st.just(Equals("price", None)),  # type: ignore[arg-type]
)
NAMED = st.sampled_from(
    ["where", "exclude", "candidates", "fields", "rules", "filter_seen", "objective", "context", "as_of", "diversity",
     "calibrate", "calibration_weight", "rerank", "explain", "language"]
)  # fmt: skip


def nested(deep: int) -> Any:
    condition: Any = Equals("price", 1)
    for _ in range(deep):
        condition = Not(condition)
    return condition


@settings(
    deadline=None,
    max_examples=1500 if FULL else 60,
    suppress_health_check=list(HealthCheck),
    derandomize=not FULL,
    database=None,
)
@given(
    way=st.sampled_from(["query", "popular", "session", "similar", "search", "many"]),
    subject=HOSTILE | st.none(),
    options=st.dictionaries(NAMED, HOSTILE, min_size=0, max_size=2),
    k=st.integers(1, 1000) | HOSTILE,
)
def test_whatever_is_asked(
    trained: Any, recommender: Recommender, way: str, subject: Any, options: dict[str, Any], k: Any
) -> None:
    """Whatever is asked for, an answer or a clear error comes within a second, in 64 MiB, and repeats little of it."""
    limits = {name: value for name, value in options.items() if name in ("where", "exclude", "candidates", "rules")}
    asks: dict[str, Callable[[], Any]] = {
        "query": lambda: recommender.query(trained.user if subject is None else subject, k=k, **options),
        "popular": lambda: recommender.query(subject, k=k, fallback="popular", **options),
        "session": lambda: recommender.query(session=subject, k=k, **options),
        "similar": lambda: recommender.similar("SKU-0001" if subject is None else subject, k=k, **limits),
        "search": lambda: recommender.search(subject, k=k, **limits),
        "many": lambda: list(recommender.rank_many([], Query(k=k, **options))),
    }
    found, seconds, peak = spent(asks[way])
    assert isinstance(found, Recommendations | MolarError | list)
    assert seconds < 2  # memory is watched, which doubles them
    assert peak < 64 * MIB
    if isinstance(found, MolarError):
        assert len(found.message) + len(found.hint) < 3000
        assert found.hint


@pytest.mark.parametrize("option", ["--where", "--text", "--user", "--session", "--similar-to", "--exclude", "--image"])
@pytest.mark.parametrize("part", ["(", "a,", "\0", "日"])
def test_a_megabyte(trained: Any, option: str, part: str) -> None:
    """A megabyte in any option is refused unread, and told in a few words."""
    asked = ["query", option, part * (MIB // len(part)), "--workspace", str(trained.workspace)]
    if option in ("--where", "--exclude"):
        asked += ["--user", trained.user]
    began = time.process_time()
    done = CliRunner().invoke(app, asked)
    assert time.process_time() - began < 1
    assert done.exit_code in (1, 2)
    assert len(done.output) < 1000
    assert "remedy" in done.output or "null byte" in done.output


def test_paths_that_none_is(trained: Any, tmp_path: Path) -> None:
    """A path that no file can have is refused by its name, wherever one is asked for."""
    for path in ("x" * 300, "x/" * 3000, "a\0b"):
        for asked in (
            ["query", "--user", trained.user, "--workspace", path],
            ["query", "--user", trained.user, "--workspace", str(trained.workspace), "--rules", path],
            ["query", "--image", path, "--workspace", str(trained.workspace)],
            ["recommend", "--out", path, "--workspace", str(trained.workspace)],
            ["recommend", "--out", str(tmp_path / "o"), "--users", path, "--workspace", str(trained.workspace)],
        ):
            done = CliRunner().invoke(app, asked)
            assert done.exit_code in (1, 2, 3), (asked[:2], done.output)
            assert "unexpected" not in done.output, done.output
            assert len(done.output) < 1000
    assert list(tmp_path.iterdir()) == []


RULES: dict[str, tuple[str, int]] = {
    "ban by id": ("ban = ['SKU-{n}x']", 10_000),
    "ban by word": ("ban = 'category = C{n}'", 10_000),
    "ban by number": ("ban = 'price > {n}000'", 100),
    "require": ("require = 'price > 0.000{n}'", 100),
    "boost": ("boost = 'category = C{n}'", 100),
    "bury": ("bury = 'category = C{n}'", 100),
    "fresh": ("fresh = 'price'\nby = 0.{n}1", 100),
    "at_most": ("at_most = 1{n}\nper = 'category'", 10_000),
    "at_least": ("at_least = 1\nof = 'category = C{n}'", 100),
    "pin": ("pin = ['P{n}']\nat = {place}", 10_000),
}
"""Each action, and how many rules with it there may be."""


@pytest.mark.parametrize("action", RULES)
def test_thousands_of_rules(
    trained: Any, recommender: Recommender, tmp_path: Path, action: str, measured: Callable[[str], None]
) -> None:
    """Ten thousand rules are read, or refused, in two seconds, and cost an answer at most five milliseconds."""
    rule, most = RULES[action]
    file = tmp_path / "rules.toml"
    file.write_text("".join(f"[[rule]]\n{rule.format(n=n, place=n + 1)}\n" for n in range(10_000)), "utf-8")
    with Recommender.open(trained.workspace, rules=file) as shop:
        began = time.process_time()
        if most < 10_000:
            with pytest.raises(SettingsError, match=f"more than {most}"):
                shop.query(trained.user)
            measured(f"{most} may be; 10,000 refused after {time.process_time() - began:.1f} s")
            assert time.process_time() - began < 2
            return
        shop.query(trained.user)
        read = time.process_time() - began
        more = fastest(lambda: shop.query(trained.user)) - fastest(lambda: recommender.query(trained.user))
    measured(f"read in {read:.1f} s, {1000 * more:.1f} ms more an answer")
    assert read < 2
    assert more < 0.005


def fastest(work: Callable[[], Any]) -> float:
    """Seconds of this process for the fastest of some runs."""
    taken = []
    for _ in range(7):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return min(taken)


def test_files_without_end(trained: Any, recommender: Recommender) -> None:
    """A file of rules, settings or users without an end is refused after its bound."""
    endless = "/dev/zero"
    for asked in (
        ["query", "--user", trained.user, "--rules", endless],
        ["recommend", "--out", str(trained.workspace.parent / "never"), "--users", endless],
    ):
        began = time.process_time()
        done = CliRunner().invoke(app, [*asked, "--workspace", str(trained.workspace)])
        assert done.exit_code in (1, 2), done.output
        assert "MiB" in done.output
        assert time.process_time() - began < 3
    with pytest.raises(SettingsError, match="16 MiB"):
        MolarSettings.load(trained.workspace.parent, environ={}, file=Path(endless))


def table(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def test_runs_for_one_file(
    trained: Any, tmp_path: Path, rounds: Callable[[int, int], int], measured: Callable[[str], None]
) -> None:
    """Of several runs for one file at once one writes it whole and the others are refused."""
    recommend(trained.workspace, tmp_path / "alone.parquet", k=3)
    alone, written, refused, count = table(tmp_path / "alone.parquet"), 0, 0, rounds(5, 50)
    with ProcessPoolExecutor(3, get_context("spawn")) as pool:
        for _ in range(count):
            target = tmp_path / "all.parquet"
            for run in [pool.submit(recommend, trained.workspace, target, k=3) for _ in range(3)]:
                error = run.exception()
                assert error is None or (isinstance(error, DataError) and "another process" in error.message), error
                written, refused = written + (error is None), refused + (error is not None)
            assert table(target) == alone
            target.unlink()
    assert written >= count
    assert refused
    assert [path.name for path in tmp_path.iterdir()] == ["alone.parquet"]
    measured(f"{count} rounds of 3: {written} written whole, {refused} refused")


@pytest.fixture
def changing(shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Rules beside a workspace, by words, and what the lists are under each."""
    monkeypatch.setattr(indexes_batch, "_SHARD", 60)
    file = shop.workspace.parent / "rules.toml"
    with Recommender.open(shop.workspace) as opened:
        first, second = (item.item_id for item in opened.query(shop.user, k=2).items)

    class Changing:
        def __init__(self) -> None:
            self.shop, self.target = shop, tmp_path / "lists.parquet"
            self.lists: dict[str, list[dict[str, Any]]] = {}

        def set(self, name: str) -> None:
            rule = {"old": f"[[rule]]\nban = ['{first}']\n", "new": f"[[rule]]\nban = ['{second}']\n"}.get(name)
            file.unlink(missing_ok=True) if rule is None else file.write_text(rule, "utf-8")

        def write(self, **more: Any) -> None:
            recommend(shop.workspace, self.target, k=5, **more)

    changes = Changing()
    for name in ("old", "new", "none"):
        changes.set(name)
        recommend(shop.workspace, tmp_path / name, k=5)
        changes.lists[name] = table(tmp_path / name)
    assert changes.lists["old"] != changes.lists["new"] != changes.lists["none"]
    return changes


CHANGES = (("old", "new"), ("old", "none"), ("none", "new"))


def test_rules_that_change_between(changing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that goes on after the rules were changed uses nothing that was made by the old ones."""
    write = indexes_batch._write
    for before, after in CHANGES:
        made: list[Any] = []

        def dying(*arguments: Any, made: list[Any] = made) -> None:
            made.append(arguments)
            if len(made) == 2:
                raise KeyboardInterrupt
            write(*arguments)

        changing.set(before)
        monkeypatch.setattr(indexes_batch, "_write", dying)
        with pytest.raises(KeyboardInterrupt):
            changing.write()
        monkeypatch.setattr(indexes_batch, "_write", write)
        changing.set(after)
        changing.write()
        assert table(changing.target) == changing.lists[after]


def test_rules_that_change_meanwhile(
    changing: Any, monkeypatch: pytest.MonkeyPatch, rounds: Callable[[int, int], int]
) -> None:
    """All lists of a file are made by the rules as they were when its run began."""
    work = ProcessRunner._made
    for processes in range(1, 1 + rounds(1, 3)):
        for before, after in CHANGES:

            def late(*arguments: Any, after: str = after) -> Any:
                changing.set(after)
                return work(*arguments)

            changing.set(before)
            monkeypatch.setattr(ProcessRunner, "_made", late)
            changing.write(processes=processes)
            assert table(changing.target) == changing.lists[before]


@pytest.mark.skipif(not FULL, reason="starts and kills processes for a minute")
def test_killed_and_changed(changing: Any, rounds: Callable[[int, int], int], measured: Callable[[str], None]) -> None:
    """A run that is killed at any moment, and begun again under other rules, leaves one whole file by these."""
    chance, resumed, count = random.Random(0), 0, rounds(1, 30)
    for number in range(count):
        before, after = (("old", "new"), ("new", "old"))[number % 2]
        changing.set(before)
        command = [MOLAR, "recommend", "-k", "5", "--out", changing.target, "--processes", str(1 + number % 2)]
        run = subprocess.Popen(
            [*command, "--workspace", changing.shop.workspace], stdout=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(chance.uniform(0.3, 3))
        run.send_signal(signal.SIGKILL)
        run.wait()
        resumed += changing.target.with_name("lists.parquet.partial").exists()
        changing.set(after)
        changing.write()
        assert table(changing.target) == changing.lists[after]
    measured(f"{count} of {count} by the new rules, {resumed} with unfinished work in the way")


STRANGERS = ("U0004", "u004", "uu004", "0004", "u0004 ", "nobody", "", "%", "u____")


@pytest.fixture(scope="module", params=["embedded", "server"])
def crowd(trained: Any, request: pytest.FixtureRequest) -> Iterator[Recommender]:
    if request.param == "embedded":
        with Recommender.open(trained.workspace) as opened:
            yield opened
        return
    workspace = Workspace.open(trained.workspace)
    kept = IndexSettings(url="http://in-process", collection="molar-attack", users="server", timeout=60, uploads=1)
    server = ServerConfig.of(kept)
    assert server is not None
    connection = Connection(Client(":memory:"), server)
    with open_generation(workspace) as generation:
        publish(connection, generation, kept)
    with Recommender(workspace, served(connection, workspace)) as opened:
        yield opened


def people(recommender: Recommender) -> list[str]:
    return [user.user_id for batch in recommender.generation.users.batches() for user in batch]


def test_strangers_are_told_nothing_of_others(crowd: Recommender) -> None:
    """Somebody unknown is answered without the ids of other people, whoever keeps them."""
    known = people(crowd)
    for stranger in STRANGERS:
        for ask in (
            lambda user: crowd.query(user, fallback="error"),
            lambda user: crowd.search("shoes", user_id=user, fallback="error"),
        ):
            with pytest.raises(RequestError, match="no history is known") as caught:
                ask(stranger)
            told = caught.value.message.replace(repr(stranger), "") + caught.value.hint
            assert not [user for user in known if user in told]


def test_no_output_names_others(trained: Any, recommender: Recommender, tmp_path: Path) -> None:
    """No output for somebody names another user: not as JSON, not with --debug, not a file of lists.

    Whoever operates the shop is told of an id that differs from the asked one by case or blanks alone.
    """
    known = people(recommender)
    for stranger in STRANGERS[:3]:
        for more in ([], ["--json"], ["--debug"], ["--fallback", "error", "--json"]):
            asked = ["query", f"--user={stranger}", *more, "--workspace", str(trained.workspace)]
            told = CliRunner().invoke(app, asked).output.replace(repr(stranger), "").replace(json.dumps(stranger), "")
            others = [user for user in known if user.casefold() != stranger.strip().casefold()]
            assert not [user for user in others if user in told.replace(stranger or "\0", "")], told
    (tmp_path / "users.txt").write_text("\n".join([*STRANGERS, trained.user]), "utf-8")
    out = tmp_path / "lists.parquet"
    asked = ["recommend", "--users", str(tmp_path / "users.txt"), "--out", str(out), "--workspace"]
    done = CliRunner().invoke(app, [*asked, str(trained.workspace)])
    assert done.exit_code == 0
    assert not [user for user in known if user in done.output]
    assert {row["user_id"] for row in table(out)} == {trained.user}
