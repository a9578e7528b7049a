"""The event log."""

from event_kills import survive
from studio_client import StudioClient
from warm import MOLAR
from web_server import client_of

from molar_serving.access import Keyring


def test_kills_of_appends_and_compactions(tmp_path, rounds, measured):
    """An acknowledged event is in the log once, whatever is killed."""
    kills = rounds(4, 100)
    acknowledged, _ = survive(tmp_path, kills)
    assert acknowledged > 0
    measured(f"{kills} kills, {acknowledged:,} acknowledged events: none lost, none doubled")


IMPOSSIBLE = ("0001-01-01T00:00:00+14:00", "0001-01-01", 0, -1, "1989-12-31T23:59:59Z", 10**30, "9999-12-31T23:59:59Z")
PAGES = ("/studio", "/studio/overview/figures", "/studio/events", "/studio/events/arrived", "/studio/events/attributed",
         "/studio/people", "/studio/people/late", "/studio/then/late", "/studio/data", "/studio/changes")  # fmt: skip


def test_a_request_with_an_impossible_time(shop, warm, tmp_path, measured):
    """No event that a page key sends breaks a page, a command or an answer, whatever its time is."""
    ring = Keyring(shop.workspace)
    page = ring.add("page", ["answer", "events"], origins=["https://shop.example"])
    admin = ring.add("admin", ["answer", "events", "catalogue", "rules", "studio", "admin"])
    sent = [
        {"event_id": f"late{number}", "event": "view", "user_id": "late", "item_id": "SKU-0001", "timestamp": when}
        for number, when in enumerate(IMPOSSIBLE)
    ]
    with client_of(shop.workspace) as client:
        headers = {"authorization": f"Bearer {page}", "origin": "https://shop.example"}
        told = client.post("/v1/events", json=sent, headers=headers)
        studio = StudioClient(client)
        assert studio.sign_in(admin).status_code == 303
        broken = [path for path in PAGES if studio.get(path).status_code >= 400]
        user = client.get("/v1/users/late", headers={"authorization": f"Bearer {admin}"})
    where = ("-w", shop.workspace)
    asked = [("tail",), ("export", tmp_path / "all.csv"), ("compact",)]
    codes = {words[0]: warm.run(MOLAR, "events", *words, *where).returncode for words in asked}
    assert (broken, user.status_code) == ([], 200)
    assert set(codes.values()) <= {0, 3}, codes  # 3: there is no log yet
    assert [one["field"] for one in told.json()["rejected"]] == ["timestamp"] * len(sent)
    measured(f"{len(sent)} of {len(sent)} refused, {len(PAGES)} pages and {len(asked)} commands as before")
