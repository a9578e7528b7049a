"""What browsers may ask, and how often anybody may: origins, CORS, rates, headers."""

import pytest
from copies import copy_workspace
from web_server import client_of

from molar_retrieval.errors import RequestError
from molar_serving.auth import BROWSER_RATE, Key, Keyring, RateLimits, is_local, origin

SHOP, OTHER = "https://shop.example", "https://other.example"
ASKED = "/v1/recommendations"


@pytest.fixture(scope="module")
def keys(trained, tmp_path_factory):
    workspace = copy_workspace(trained.workspace, tmp_path_factory.mktemp("origins") / ".molar")
    ring = Keyring(workspace)
    sent = {
        "page": ring.add("page", ["answer", "events"], origins=["HTTPS://Shop.example:443/"]),
        "backend": ring.add("backend", ["answer", "admin"]),
        "slow": ring.add("slow", ["answer"], rate=2),
    }
    return workspace, ring, sent


@pytest.fixture(scope="module")
def client(keys):
    with client_of(keys[0]) as client:
        yield client


@pytest.fixture(scope="module")
def ask(client, keys):
    def asked(name, page=None, method="POST", **more):
        headers = {"authorization": f"Bearer {keys[2][name]}"} | ({} if page is None else {"origin": page})
        return client.request(method, ASKED, json={"user_id": "u", "k": 1}, headers=headers, **more)

    return asked


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("https://shop.example", "https://shop.example"),
        ("HTTPS://SHOP.example:443/", "https://shop.example"),
        ("http://shop.example:8000", "http://shop.example:8000"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("http://[::1]:3000", "http://[::1]:3000"),
    ],
)
def test_an_origin_is_kept_as_browsers_write_it(text, known):
    assert origin(text) == known


@pytest.mark.parametrize(
    "text",
    [
        "*", "null", "shop.example", "https://", "https://*.example", "https://shop.example/cart", "ftp://shop.example",
        "https://a@shop.example", "https://shop.example:99999", "https://shop.example?x", "https://[::1", "",
    ],
)  # fmt: skip
def test_what_is_no_origin_is_refused(text):
    with pytest.raises(RequestError, match="no origin"):
        origin(text)


def test_pages_of_this_machine():
    assert is_local("http://localhost:3000")
    assert is_local("http://127.0.0.1")
    assert is_local("http://[::1]:8080")
    for page in (
        "null",
        "https://shop.example",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil",
        "http://[::1",
    ):
        assert not is_local(page)


def test_a_key_for_browsers_is_good_for_its_own_pages(ask):
    answer = ask("page", SHOP)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert "Origin" in answer.headers["vary"]
    for page in (None, OTHER, "null", "https://shop.example.evil", "http://shop.example"):
        refused = ask("page", page)
        assert refused.status_code == 403
        assert "access-control-allow-origin" not in refused.headers
        assert refused.headers["vary"] == "Origin"


def test_a_key_for_servers_is_refused_from_any_page(ask):
    assert ask("backend").status_code == 200
    refused = ask("backend", SHOP)
    assert refused.status_code == 403
    assert "molar keys add NAME --origin" in refused.json()["remedy"]
    assert refused.headers["access-control-allow-origin"] == SHOP  # so that the page can read the problem


def test_preflights_are_answered_for_known_pages_alone(client):
    def before(page, path=ASKED):
        wish = {"origin": page, "access-control-request-method": "POST"}
        return client.options(path, headers=wish | {"access-control-request-headers": "authorization"})

    for path in (ASKED, "/v1/events"):
        told = before(SHOP, path)
        assert (told.status_code, told.headers["access-control-allow-origin"]) == (204, SHOP)
        assert "authorization" in told.headers["access-control-allow-headers"]
        assert "PUT" not in told.headers["access-control-allow-methods"]
        assert "access-control-allow-credentials" not in told.headers
    told = before(OTHER)
    assert told.status_code == 405
    assert not [name for name in told.headers if name.startswith("access-control")]
    assert client.options(ASKED).status_code == 405


def test_without_keys_pages_of_this_machine_ask_and_no_others(trained):
    with client_of(trained.workspace) as client:

        def asked(**headers):
            return client.post(ASKED, json={"user_id": "u", "k": 1}, headers=headers)

        assert asked(origin="http://localhost:3000").headers["access-control-allow-origin"] == "http://localhost:3000"
        for page in (SHOP, "null", "http://localhost.evil.example"):
            assert asked(origin=page).status_code == 403
            assert "access-control-allow-origin" not in asked(origin=page).headers
        assert asked(host="shop.example").status_code == 403
        assert asked(host="localhost.shop.example").status_code == 403
        assert asked(host="[::1]:8080").status_code == 200


def test_every_answer_has_an_id_and_the_headers(client, ask):
    answers = [
        client.get("/health/live"), client.get("/openapi.json"), client.get("/nothing"), client.options(ASKED),
        client.post("/health/live"), client.post(ASKED), ask("backend"), client.get("/v1/../health"),
        client.options(ASKED, headers={"origin": SHOP, "access-control-request-method": "GET"}),
    ]  # fmt: skip
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_nobody_is_sent_elsewhere_by_the_host_that_was_named(client):
    answer = client.get("/health/live/", headers={"host": "evil.example"}, follow_redirects=False)
    assert (answer.status_code, "location" in answer.headers) == (404, False)


def test_what_fails_outside_of_endpoints_is_a_problem_with_the_headers(trained, monkeypatch, caplog):
    from molar_serving import app

    made = app.description
    monkeypatch.setattr(app, "description", lambda table: made(table) | {"x": "y"})
    with client_of(trained.workspace) as client:
        monkeypatch.setattr(app, "Response", None)
        told = client.get("/openapi.json")
    assert (told.status_code, told.headers["content-type"]) == (500, "application/problem+json")
    assert told.headers["x-content-type-options"] == "nosniff"
    assert told.json()["instance"] == told.headers["x-request-id"]
    assert told.json()["instance"] in caplog.text


def test_a_key_asks_as_often_as_it_may(ask):
    answers = [ask("slow") for _ in range(8)]
    refused = [one for one in answers if one.status_code == 429]
    assert answers[0].status_code == answers[1].status_code == 200
    assert refused
    assert refused[0].headers["retry-after"] == "1"
    assert ask("backend").status_code == 200


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_is_more_than_nothing(keys, rate):
    with pytest.raises(RequestError, match="no rate"):
        keys[1].add("odd", ["answer"], rate=rate)


@pytest.mark.parametrize(("workers", "rate", "most"), [(1, 5, 5), (4, 8, 8), (1, 0.5, 1), (3, 0.1, 1)])
def test_a_bucket_holds_a_second_and_fills_at_the_rate(monkeypatch, workers, rate, most):
    clock = [1000.0]
    monkeypatch.setattr("molar_serving.auth.time.monotonic", lambda: clock[0])
    limits, key = RateLimits(workers), Key("k", ("answer",), rate=rate)

    def taken(times):
        return sum(limits.wait(key, "") == 0 for _ in range(times))

    assert taken(100) == most
    assert limits.wait(key, "") == pytest.approx(workers / rate)
    clock[0] += 10 * workers / rate
    assert taken(100) == min(10, most)
    clock[0] += 1e6
    assert taken(100) == most
    counted = 0
    for _ in range(1000):  # asks all the time: gets the rate, no more and no less
        clock[0] += workers / rate / 10
        counted += taken(1)
    assert counted == pytest.approx(100, abs=1)


def test_each_address_of_a_browser_key_has_its_own_bucket(monkeypatch, keys):
    monkeypatch.setattr("molar_serving.auth.time.monotonic", lambda: 1.0)
    monkeypatch.setattr("molar_serving.auth._ADDRESSES", 5)
    limits, key = RateLimits(), keys[1].keys()["page"]
    assert key.rate == BROWSER_RATE
    assert sum(limits.wait(key, "192.0.2.1") == 0 for _ in range(50)) == BROWSER_RATE
    assert limits.wait(key, "192.0.2.2") == 0
    many = [limits.wait(key, f"2001:db8::{n:x}") for n in range(50)]  # a household chooses these as it likes
    assert many.count(0) == BROWSER_RATE
    assert limits.wait(key, "2001:db8:1::1") == 0
    for n in range(10):
        limits.wait(key, f"192.0.2.{n}")
    assert len(limits._keys._due) == 5
