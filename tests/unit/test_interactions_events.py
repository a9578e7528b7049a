"""Events of the log as interactions: which count, how much, once, and what is taken back."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from molar_retrieval.data import interaction_events
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.event_history import DEFAULT, EventWeights
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.data.event_log_reader import opened as opened_events
from molar_retrieval.data.interaction_reader import InteractionReader, log_columns
from molar_retrieval.data.interactions import Interactions, holdout_last, ordered, without_duplicates
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.prepare_interactions import is_current, prepare_interactions
from molar_retrieval.data.rows import Rejects
from molar_retrieval.data.schema import InteractionSettings, find_table
from molar_retrieval.errors import DataError
from molar_retrieval.privacy.pseudonyms import session_key, user_key
from molar_retrieval.progress import SILENT
from molar_retrieval.workspace.artefacts import Workspace

DAY = 86_400
START = 1_700_006_400  # midnight
BOUGHT = EventWeights.of({"purchase": 1.0})


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "shop"
    path.mkdir()
    items(path, "abcde")
    return path


@pytest.fixture
def workspace(tmp_path, folder):
    workspace = Workspace.for_catalogue(tmp_path / "work", folder)
    prepare_catalogue(folder, workspace)
    return workspace


@pytest.fixture
def log(workspace):
    log = EventLog(workspace)
    yield log
    log.close()


def items(folder, ids):
    pq.write_table(pa.table({"item_id": list(ids), "title": list(ids)}), folder / "items.parquet")


def file(folder, rows, **more):
    user, item, times = zip(*rows, strict=True)
    table = pa.table({"user_id": user, "item_id": item, "timestamp": times, **more})
    pq.write_table(table, folder / "interactions.parquet")


class Writer:
    """Appends events, numbered as they come."""

    def __init__(self, log):
        self.log, self.count = log, 0

    def __call__(self, event, user, item, time, **more):
        self.count += 1
        row = {
            "event_id": f"e{self.count}",
            "event": event,
            "user_id": user,
            "item_id": item,
            "timestamp": START + time,
        }
        report = self.log.append([(self.count, row | more)])
        assert not report.refusals, report.refusals
        return report.accepted


@pytest.fixture
def add(log):
    return Writer(log)


def opened(workspace):
    ids = Catalogue.open(workspace["catalogue"].require()[0]).ids
    return Interactions.open(workspace["interactions"].require()[0], ids)


def histories(workspace):
    log = opened(workspace)
    return {log.users.id(u): "".join(log.items.ids(log.history(u))) for u in range(log.n_users)}


def test_a_shop_may_have_events_and_no_file(folder, workspace, add):
    with pytest.raises(DataError, match="no events"):
        prepare_interactions(folder, workspace)
    add("view", "u", "c", 5)
    add("purchase", "v", "a", 9)
    add("purchase", "u", "b", 3)
    add("impression", "u", "d", 1)
    add("purchase", "u", "unknown", 4)
    manifest = prepare_interactions(folder, workspace)
    assert histories(workspace) == {"u": "bc", "v": "a"}
    log = opened(workspace)
    assert log.strength.tolist() == pytest.approx([1, 0.1, 1])
    assert log.weight.tolist() == pytest.approx([1, 0.1, 1])
    assert log.timestamp.tolist() == [START + 3, START + 5, START + 9]
    assert manifest.facts["events"] == 5
    assert manifest.facts["kinds"] == DEFAULT
    assert manifest.facts["of_events"]["of_unknown_items"] == 1


def test_file_and_events_are_one_log(folder, workspace, add):
    file(folder, [("u", "a", START), ("v", "b", START + 7), ("u", "b", START + 60)])
    add("purchase", "u", "b", 60)  # the file has it
    add("purchase", "u", "c", 30)
    add("purchase", "w", "c", 1)
    add("view", "u", "a", 0)  # at the time of the purchase: another kind
    manifest = prepare_interactions(folder, workspace, kinds=BOUGHT)
    assert histories(workspace) == {"u": "acb", "v": "b", "w": "c"}
    assert opened(workspace).strength is None
    assert opened(workspace).weight is None
    assert manifest.facts["of_events"] == {
        "counted": 2, "of_unknown_items": 0, "repeated": 0, "in_file": 1, "undone": 0
    }  # fmt: skip
    prepare_interactions(folder, workspace, kinds=EventWeights.of({"purchase": 2, "view": 1}))
    assert histories(workspace) == {"u": "aacb", "v": "b", "w": "c"}
    assert opened(workspace).weight.tolist() == [1, 0.5, 1, 1, 1, 1]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_a_file_of_days_has_what_happened_on_them(folder, workspace, add, zone):
    (folder / "catalog.toml").write_text(f'[interactions]\ntime_zone = "{zone}"\n', "utf-8")
    prepare_catalogue(folder, workspace)
    file(folder, [("u", "a", "2023-11-15"), ("u", "b", "2023-11-16")])
    add("purchase", "u", "a", 8 * 3600)  # 15 November in both zones
    add("purchase", "u", "b", 20 * 3600)  # the 15th in UTC, the 16th in Tokyo
    prepare_interactions(folder, workspace, kinds=BOUGHT)
    assert histories(workspace) == {"u": "ab" if zone == "Asia/Tokyo" else "abb"}


def test_a_log_without_events_knows_which_will_count_where_the_settings_say_so(folder, workspace):
    file(folder, [("u", "a", START)])
    prepare_interactions(folder, workspace, kinds=BOUGHT)
    made = workspace["interactions"].require()
    assert made[1].facts["kinds"] == {"purchase": 1}
    for asked, told in (({"view": 1.0}, {"view": 1}), (None, DEFAULT), ({"view": 1.0}, {"view": 1})):
        prepare_interactions(folder, workspace, kinds=EventWeights.of(asked))
        assert workspace["interactions"].require()[1].facts["kinds"] == told
    assert workspace["interactions"].require()[0] == made[0]


def test_weights_of_the_file_stay(folder, workspace, add):
    file(folder, [("u", "a", START)], weight=[3.0])
    add("view", "u", "b", 1)
    prepare_interactions(folder, workspace, kinds=EventWeights.of({"purchase": 1, "view": 0.5}))
    assert (opened(workspace).weight.tolist(), opened(workspace).strength.tolist()) == ([3, 0.5], [1, 0.5])


def test_kinds_of_the_file_are_known_by_name(folder, workspace, add):
    file(folder, [("u", "a", START), ("u", "a", START)], event=["Buy", "view_item"])
    add("view", "u", "a", 0)
    add("purchase", "u", "a", 0)
    add("add_to_cart", "u", "a", 0)
    prepare_interactions(folder, workspace)
    assert histories(workspace) == {"u": "aaa"}


def test_repeated_events_count_once(folder, workspace, add):
    for event in ("purchase", "purchase", "view"):
        add(event, "u", "a", 5)
    manifest = prepare_interactions(folder, workspace)
    assert histories(workspace) == {"u": "aa"}
    assert manifest.facts["of_events"]["repeated"] == 1


def test_a_log_without_times_comes_before_the_events(folder, workspace, add):
    pq.write_table(pa.table({"user_id": ["u", "u", "u"], "item_id": list("bab")}), folder / "interactions.parquet")
    add("purchase", "u", "c", 5)
    prepare_interactions(folder, workspace)
    assert histories(workspace) == {"u": "babc"}


def test_people_known_by_session_alone_are_nobody_else(folder, workspace, add):
    add("view", None, "a", 1, session_id="s")
    add("view", "s", "b", 2)
    add("view", "u", "c", 3, session_id="s")
    add("view", "@session:s", "d", 4)
    add("view", "@user:@session:s", "e", 5)
    prepare_interactions(folder, workspace)
    wanted = {session_key("s"): "a", "s": "b", "u": "c", user_key("@session:s"): "d", user_key("@user:@session:s"): "e"}
    assert len(wanted) == 5
    assert histories(workspace) == wanted


def test_a_return_takes_its_purchase_out(folder, workspace, add):
    file(folder, [("u", "a", START), ("u", "b", START)])
    add("purchase", "u", "c", 10)
    add("purchase", "u", "c", 20)
    add("return", "u", "c", 15)  # the one of 10
    add("return", "u", "a", 30)  # of the file
    add("return", "u", "e", 30)  # of nothing
    add("purchase", "u", "e", 40)  # after it
    manifest = prepare_interactions(folder, workspace)
    assert histories(workspace) == {"u": "bce"}
    assert opened(workspace).timestamp.tolist() == [START, START + 20, START + 40]
    assert manifest.facts["of_events"]["undone"] == 2


def test_a_return_finds_its_order_or_its_request(folder, workspace, add):
    add("purchase", "u", "a", 1, transaction_id="T1")
    add("purchase", "u", "a", 2, transaction_id="T2")
    add("purchase", "u", "b", 2, transaction_id="T2")
    add("return", "u", "a", 9, transaction_id="T1")
    add("return", "u", "a", 9, transaction_id="T1")  # sent twice
    prepare_interactions(folder, workspace)
    assert histories(workspace) == {"u": "ab"}
    add("return", "u", None, 10, transaction_id="T2")  # all of it
    add("purchase", "u", "c", 11, request_id="R1")
    add("purchase", "u", "c", 12, request_id="R2")
    add("return", "u", "c", 13, request_id="R1")
    prepare_interactions(folder, workspace)
    assert histories(workspace) == {"u": "c"}
    assert opened(workspace).timestamp.tolist() == [START + 12]


def test_what_leaves_the_cart_was_not_in_it(folder, workspace, add):
    add("add_to_cart", "u", "a", 1)
    add("add_to_cart", "u", "b", 1)
    add("remove_from_cart", "u", "a", 2)
    prepare_interactions(folder, workspace)
    assert histories(workspace) == {"u": "b"}


def test_nothing_is_done_where_nothing_came_that_counts(folder, workspace, add, log):
    file(folder, [("u", "a", START)])
    first = prepare_interactions(folder, workspace)
    assert "events" not in first.facts or first.facts["events"] == 0
    add("impression", "u", "b", 1)
    assert is_current(folder, workspace)
    second = prepare_interactions(folder, workspace)
    assert (second.fingerprint, second.facts["events"], second.number) == (first.fingerprint, 1, first.number)
    add("purchase", "u", "b", 1)
    assert not is_current(folder, workspace)
    third = prepare_interactions(folder, workspace)
    assert third.number == first.number + 1
    assert is_current(folder, workspace)
    assert not is_current(folder, workspace, EventWeights.of({"view": 1.0}))
    log.compact()
    assert prepare_interactions(folder, workspace) == third
    log.compact(1)
    assert not is_current(folder, workspace)
    assert prepare_interactions(folder, workspace).fingerprint == first.fingerprint


def test_a_file_alone_is_what_it_was(folder, workspace, log):
    file(folder, [("u", "a", START), ("v", "b", START)])
    log.append([(1, {"event_id": "1", "event": "search", "user_id": "u", "timestamp": START})])
    with_log = prepare_interactions(folder, workspace)
    other = Workspace.for_catalogue(workspace.root.parent / "other", folder)
    prepare_catalogue(folder, other)
    assert prepare_interactions(folder, other).fingerprint == with_log.fingerprint


def test_strength_follows_its_interactions(folder, workspace, add):
    for time, kind in enumerate(["view", "purchase", "view", "purchase"]):
        add(kind, "u" if time < 3 else "v", "abcd"[time], time)
    prepare_interactions(folder, workspace)
    log = opened(workspace)
    assert log.select(np.array([False, True, True, True])).strength.tolist() == pytest.approx([1, 0.1, 1])
    assert log.of_users(np.array([1])).strength.tolist() == [1]
    assert (log.strongest.item.tolist(), log.strongest.strength) == ([1, 3], None)


def test_validation_asks_for_purchases_before_their_item_was_looked_at(folder, workspace, add):
    deeds = "view a, purchase b, view c, view d, purchase d, view e"
    for time, deed in enumerate(deeds.split(", ")):
        add(*deed.split()[:1], "u", deed.split()[1], time)
        add(*deed.split()[:1], "once", deed.split()[1], time) if time > 2 else None  # too short before it
    for time, deed in enumerate(["purchase a", "view b", "view c", "purchase a"]):
        add(*deed.split()[:1], "again", deed.split()[1], time)
    prepare_interactions(folder, workspace)
    log = opened(workspace)
    split = holdout_last(log, 9, 0)
    (user,) = split.users
    assert (log.users.id(user), log.items.ids(split.targets), split.times.tolist()) == ("u", ["d"], [START + 3])
    assert "".join(log.items.ids(split.training.history(user))) == "abc"
    assert len(split.training.strength) == len(split.training) == len(log) - 3
    assert len(holdout_last(log, 0, 0)) == 0


@pytest.mark.parametrize("more", [(), ("weight", "position", "event")])
@pytest.mark.parametrize("unit", [1, DAY])
def test_rows_of_people_without_events_come_out_as_if_all_were_looked_at(
    folder, workspace, add, monkeypatch, more, unit
):
    random = np.random.default_rng(len(more) + unit)
    rows = [(f"u{u}", "abcde"[i], START + unit * t) for u, i, t in random.integers(0, [12, 5, 9], (80, 3)).tolist()]
    columns = {
        "weight": random.choice([0.5, 1, 3], 80),
        "position": random.permutation(80),
        "event": random.choice(["purchase", "view", "gift", "rating"], 80),
    }
    file(folder, rows, **{name: columns[name] for name in more})
    for kind in ("view", "purchase", "add_to_cart", "remove_from_cart", "return", "purchase"):
        for user, item, time in random.integers(0, [5, 5, 9], (5, 3)).tolist():
            add(kind, f"u{3 * user + 1}", "abcde"[item], unit * time)
    ids, weights = Catalogue.open(workspace["catalogue"].require()[0]).ids, dict(DEFAULT)

    def made():
        table = find_table(folder, "interactions")
        settings = InteractionSettings()
        reader = InteractionReader(table, log_columns(settings, table, "item_id"), settings, ids, Rejects(folder / "r"))
        raw, users = reader.read(SILENT)
        rows = without_duplicates(ordered(raw))
        joined = interaction_events.with_events(rows, users.to_pylist(), ids, state, weights)
        log, people = joined.weighted(weights)
        return log.columns, people.to_pylist(), joined.kinds(weights), joined.log.columns, joined.counts

    with opened_events(workspace) as state:
        parted = made()
        monkeypatch.setattr(interaction_events, "_untouched", lambda user, *_: np.zeros(len(user), bool))
        whole = made()
    np.testing.assert_equal(parted, whole)
