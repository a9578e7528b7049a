"""Requests made up at random, by the OpenAPI page and beside it: whatever comes is answered, in time and as described.

And it does no lasting damage: after each batch all background threads work, every page of the studio and `molar events
tail`, `export` and `compact` work, and `molar doctor` says nothing new. MOLAR_TEST_FUZZ=100000 sends as many requests,
MOLAR_TEST_FUZZ_SEED=2 others; here it is a few hundred. A batch that does damage is sent again to fresh servers, until
the request is found that does it; `--log-cli-level=INFO` tells how far it is.
"""

import json
import logging
import os
import random
import re
import shutil
import time
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import httpx
import msgspec
import msgspec.inspect
import pytest
import schemathesis
from copies import copy_workspace
from hypothesis import HealthCheck, Phase, given, reject, seed, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import response_schema_conformance
from studio_client import words_of
from web_server import program

import molar
from molar_retrieval.errors import MissingArtefactError
from molar_serving.app import DIALECTS, ENDPOINTS
from molar_serving.studio.app import SCREENS

REQUESTS = int(os.environ.get("MOLAR_TEST_FUZZ", "300"))
SEED = int(os.environ.get("MOLAR_TEST_FUZZ_SEED", "1"))
FEW = REQUESTS <= 300
BY_PAGE, BY_MEANING = (1, REQUESTS // 4) if FEW else (REQUESTS // 20, REQUESTS // 10)  # these take long to make up
BATCH = 150 if FEW else 1_000  # requests after which it is looked at what they have done
DESCRIBED = (501, 503, 507)  # not supported, not now, no room
LONGEST, LONGER = 1.0, 10.0
MANY = (
    "/v1/rules/preview",
    "/v1/generations/diff",
    "/v1/experiments",
)  # whoever looks after the shop asks for the lists of hundreds of people
MOST = 50 << 20  # bytes by which memory may grow in every quarter but the first, in which models are loaded
log = logging.getLogger("fuzz")
EVERYTHING = {
    "database": None,
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.generate],
}


class Patient(httpx.Client):
    """A client that asks once more where the server has closed the connection, as it may after a bad request."""

    def request(self, *arguments, **options):
        try:
            return super().request(*arguments, **options)
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
            return super().request(*arguments, **options)


class Fuzzed:
    """A server that is sent requests, which are kept until it was looked at what they have done."""

    def __init__(self, server, client, workspace, anew=None):
        self.server, self.client, self.shop, self.anew = server, client, molar.Shop(None, workspace), anew
        items = client.get("/v1/recommendations?user_id=somebody&k=20").json()["items"]
        self.items = [item["item_id"] for item in items]
        self.out = workspace.parent / "exported.jsonl"
        self.batch, self.count, self.accepted = [], 0, 0
        self.known, self.pages = self.doctor(), dict(self.answered())

    def send(self, method, path, **request):
        """Send a request; it is answered in time, and without a fault of the server."""
        self.batch.append((method, path, request))
        self.count += 1
        answer = sent(self.client, method, path, **request)
        self.accepted += answer.status_code < 300 and method != "GET"
        return answer

    def doctor(self):
        """What `molar doctor` says is wrong, but for figures, and for what is due once somebody was forgotten."""
        problems = self.shop.doctor().to_dict()["problems"]
        return {
            (one["section"], one["name"], re.sub(r"[\d.,]+|[0-9a-f]{8,}", "#", one["problem"]))
            for one in problems
            if one["name"] != "suppressed"
        }

    def damage(self):
        """What does not work any more."""
        return [*self._threads(), *self._pages(), *self._commands()]

    def look(self):
        """Fail where what was sent has done damage, and name the request."""
        batch, self.batch = self.batch, []
        wrong = self.damage()
        used = memory(self.server) >> 20
        told = self.count, self.accepted, used, wrong or "none"
        log.info("%d requests, %d changed something, %d MiB of memory, damage: %s", *told)
        if wrong:
            pytest.fail(f"{wrong} by {self.culprit(batch)}")

    def culprit(self, batch):
        """The first request of a batch after which something is broken, by sending less and less to fresh servers."""
        low, high = 0, len(batch) + 1
        while low + 1 < high:
            middle = (low + high) // 2
            with self.anew() as other:
                for method, path, request in batch[:middle]:
                    with suppress(httpx.HTTPError, httpx.InvalidURL):
                        other.client.request(method, path, **request)
                broken = bool(other.damage())
            low, high = (low, middle) if broken else (middle, high)
        return batch[high - 1] if high <= len(batch) else f"one before the last {len(batch):,}, or several together"

    def _threads(self):
        ready = self.client.get("/health/ready")
        if ready.status_code != 200:
            yield ready.text
        for line in self.client.get("/metrics").text.splitlines():
            if line.startswith("molar_thread_restarts_total{") and not line.endswith(" 0.0"):
                yield line

    def _pages(self):
        """Pages that fail, or that are not answered any more and were at the beginning."""
        for page, answer in self.answered():
            if answer.status_code >= 500 or (answer.status_code >= 400 and self.pages.get(page, answer).is_success):
                yield f"{page}: {answer.status_code} {words_of(answer)[:300]}"

    def answered(self):
        """The answer to each page of the studio."""
        names = [one["name"] for one in self.client.get("/v1/experiments").json()["experiments"][:3]]
        known = {"user_id": ["somebody", "visitor"], "item_id": self.items[:2], "experiment": names, "name": names}
        for screen in SCREENS:
            if screen.method != "GET":
                continue
            name = screen.path.partition("{")[2].partition("}")[0]
            for value in known.get(name.partition(":")[0], ()) if name else [""]:
                path = screen.path.replace("{" + name + "}", quote(value, safe=""))
                for part in ({}, {"hx-request": "true"}):
                    yield f"GET {path} {part}", self.client.get(path, headers=part)

    def _commands(self):
        events = self.shop.events
        for name, done in (
            ("doctor", lambda: self.doctor() - self.known),
            ("tail", lambda: events.tail(50).to_pylist() and None),
            ("export", lambda: events.export(self.out) and None),
            ("compact", lambda: events.compact() and None),
        ):
            try:
                if found := done():
                    yield f"{name}: {found}"
            except MissingArtefactError:
                continue  # no event was accepted yet
            except Exception as error:  # whatever it is, somebody cannot use their log any more
                yield f"{name}: {error!r}"


@contextmanager
def begun(trained, folder, anew=None):
    """A fresh server of the trained shop."""
    workspace = copy_workspace(trained.workspace, folder / ".molar", shutil.ignore_patterns("serving"))
    file = workspace.parent / "molar.toml"
    file.write_text("[serve]\ndeadline = 0.4\n")  # so long a request may wait for events that never come
    with program(workspace, "--settings", str(file)) as server, Patient(base_url=server.address, timeout=30) as client:
        yield Fuzzed(server, client, workspace, anew)


@pytest.fixture(scope="module")
def fuzzed(trained, tmp_path_factory):
    def anew():
        return begun(trained, tmp_path_factory.mktemp("fuzzed"))

    with begun(trained, tmp_path_factory.mktemp("fuzzed"), anew) as found:
        yield found


@pytest.fixture(scope="module")
def server(fuzzed):
    return fuzzed.server


@pytest.fixture(scope="module")
def client(fuzzed):
    return fuzzed.client


def memory(server):
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) << 10


def sent(client, method, path, **request):
    """Send a request; it is answered in time, and without a fault of the server."""
    longest = LONGER if path.endswith(MANY) else LONGEST
    for _ in range(2):  # a machine that does something else is not meant
        began = time.perf_counter()
        try:
            answer = client.request(method, path, **request)
        except (httpx.LocalProtocolError, httpx.InvalidURL):
            reject()  # no client sends this; test_web_connections.py does
        took = time.perf_counter() - began
        if took < longest:
            break
    told = method, path, request, answer.text[:500]
    assert answer.status_code < 500 or answer.status_code in DESCRIBED, told
    assert took < longest, (took, told)
    assert answer.headers["x-request-id"], told
    kind = answer.headers.get("content-type", "")
    assert answer.status_code == 204 or kind.startswith(("application/json", "application/problem+json", "text/")), told
    return answer


def test_the_openapi_page_is_one(client):
    validate(client.get("/openapi.json").json())


def numbers(schema, where):
    """The schemas of numbers in a schema, by where they stand; those that it refers to are looked at by themselves."""
    kinds = schema.get("type", ())
    if {"integer", "number"} & set([kinds] if isinstance(kinds, str) else kinds):
        yield where, schema
    for name, inner in schema.get("properties", {}).items():
        yield from numbers(inner, f"{where}.{name}")
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for inner in schema.get(key, ()):
            yield from numbers(inner, where)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from numbers(schema[key], f"{where}[]")


def referred(schema):
    """Names of the components that a schema refers to."""
    return set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(schema)))


def test_every_number_that_is_sent_has_both_bounds(client):
    page = client.get("/openapi.json").json()
    operations = [one for path in page["paths"].values() for one in path.values()]
    sent = [(one["operationId"], one.get("requestBody", {}), one.get("parameters", [])) for one in operations]
    schemas = {f"{name} {of['name']}": of["schema"] for name, _, parameters in sent for of in parameters}
    waiting = set().union(*(referred(body) for _, body, _ in sent))
    components = page["components"]["schemas"]
    while waiting:
        name = waiting.pop()
        schemas[name] = components[name]
        waiting |= referred(components[name]) - schemas.keys()
    found = [one for name, schema in schemas.items() for one in numbers(schema, name)]
    assert len(found) > 30
    least, most = {"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}
    assert [where for where, one in found if not (least & one.keys() and most & one.keys())] == []


def types_of(kind):
    """The types within a type that is read, each with its fields' names before it."""
    waiting, seen = [("", msgspec.inspect.type_info(kind))], set()
    while waiting:
        where, one = waiting.pop()
        yield where, one
        if isinstance(one, msgspec.inspect.StructType) and one.cls not in seen:
            seen.add(one.cls)
            waiting += [(f"{one.cls.__name__}.{field.encode_name}", field.type) for field in one.fields]
        waiting += [(where, inner) for name in ("types", "item_types") for inner in getattr(one, name, None) or ()]
        inner = [getattr(one, name, None) for name in ("item_type", "key_type", "value_type")]
        waiting += [(where, one) for one in inner if one is not None]


def test_every_number_that_other_products_send_has_both_bounds():
    """Of what has no OpenAPI page; types that are read by functions of these modules as well."""
    kinds = [kind for one in (*ENDPOINTS, *DIALECTS) for kind in (one.body, one.query) if kind is not None]
    kinds += [one for one in msgspec.Struct.__subclasses__() if one.__module__.startswith("molar_serving.compat")]
    wrong, known = [], 0
    for kind in kinds:
        for where, one in types_of(kind):
            if isinstance(one, msgspec.inspect.IntType | msgspec.inspect.FloatType):
                known += 1
                bounded = [(one.ge, one.gt), (one.le, one.lt)]
                wrong += [where] if any(pair == (None, None) for pair in bounded) else []
    assert known > 50
    assert sorted(set(wrong)) == []


def test_by_the_openapi_page(client, server, fuzzed):
    """What the page allows and what it does not: no fault of the server, and answers are of the type that it tells."""
    load_all_checks()
    page = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    operations = [found.ok() for found in page.get_all_operations()]
    for number, operation in enumerate(operations):
        modes = list(GenerationMode) if operation.body or operation.query or operation.path_parameters else []
        for mode in modes[number % 2 :][:1] if FEW else modes:

            @seed(SEED)
            @settings(max_examples=max(1, BY_PAGE // (2 * len(operations))), derandomize=FEW, **EVERYTHING)
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case):
                given = case.as_transport_kwargs(base_url=server.address)
                answer = fuzzed.send(given.pop("method"), given.pop("url"), **{k: v for k, v in given.items() if v})
                case.validate_response(answer, checks=[json_or_a_problem, response_schema_conformance])

            check()
            if len(fuzzed.batch) >= BATCH:
                fuzzed.look()
    fuzzed.look()


def json_or_a_problem(ctx, response, case):
    """Answers are JSON; what is refused is a problem, or a batch of which nothing is good, in JSON."""
    kind = response.headers["content-type"][0].partition(";")[0]
    known = ["application/json", "text/plain"] if response.status_code < 400 else ["application/problem+json"]
    if response.status_code in (400, 422, 503):
        known.append("application/json")
    assert kind in known, (kind, response.status_code)


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(10**30), max_value=10**30),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from(
        ["", "\0", "\ud7ff", "💺" * 300, "../../etc/passwd", "%00", "' OR 1=1 --", "{{7*7}}", "a" * 5_000, "-1", "nan"]
    ),
)
ANYTHING = st.recursive(
    ODD,
    lambda deeper: st.lists(deeper, max_size=4) | st.dictionaries(st.text(max_size=8), deeper, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def likely(trained, fuzzed):
    """What fields of their names may hold, and often enough something else."""
    items = fuzzed.items
    item, user = st.sampled_from([*items, "none such"]), st.sampled_from([trained.user, trained.new_user, "visitor", 7])
    moment = st.sampled_from(["2026-01-01T00:00:00Z", "2099-01-01", 1_700_000_000, 1_700_000_000_000, "yesterday"])
    known = {
        "user_id": user, "anonymous_id": user, "userId": user, "UserId": user, "user": user, "client_id": user,
        "item_id": item, "itemId": item, "ItemId": item, "item": item, "k": st.integers(1, 30), "n": st.integers(0, 30),
        "where": st.sampled_from(["price < 30", "category = chairs", "price <", "not (price > 3 and price < 2)"]),
        "language": st.sampled_from(["en", "ja", "xx"]), "filter_seen": st.booleans(),
        "text": st.text(max_size=40), "event": st.sampled_from(["view_item", "purchase", "add_to_cart", "vieww"]),
        "event_id": st.text(min_size=1, max_size=8), "timestamp": moment, "Timestamp": moment, "time": moment,
        "fields": st.lists(st.sampled_from(["price", "category", "x"]), max_size=3),
        "diversity": st.floats(0, 1), "wait_for": st.integers(0, 5), "FeedbackType": st.sampled_from(["read", "buy"]),
    }  # fmt: skip
    for many, one in (("items", item), ("exclude", item), ("candidates", item), ("session", item), ("users", user)):
        known[many] = st.lists(one, max_size=5) | st.lists(st.fixed_dictionaries({"item_id": one}), max_size=3)
    return known


def described(kind, likely):
    """Bodies of a type: some of its fields, what they hold mostly likely."""
    try:
        names = [field.encode_name for field in msgspec.structs.fields(kind)]
    except TypeError:
        names = list(likely)
    return st.lists(st.sampled_from(names), max_size=5, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries(
            {name: likely.get(name, ANYTHING) | likely.get(name, ODD) | ANYTHING for name in chosen}
        )
    )


def test_by_what_fields_mean(client, likely, server, trained, fuzzed):
    """Every endpoint, those of other products too, asked with what its fields may hold, and with what they may not."""
    every, taken = (*ENDPOINTS, *DIALECTS), []
    photo = next((trained.shop / "images").glob("*.jpg")).read_bytes()  # whatever is loaded once is, before it counts
    assert client.post("/v1/search/photo", content=photo, headers={"content-type": "image/jpeg"}).status_code == 200
    assert client.get("/v1/search?text=a+red+chair").status_code == 200

    def check(data):
        endpoint = data.draw(st.sampled_from(every))
        path = endpoint.path
        while "{" in path:
            name = path.partition("{")[2].partition("}")[0]
            value = data.draw(likely.get(name.partition(":")[0], likely["item_id"]) | st.text(max_size=20))
            path = path.replace("{" + name + "}", quote(str(value), safe=""), 1)
        query = data.draw(described(endpoint.query or None, likely)) if data.draw(st.integers(0, 3)) == 0 else {}
        body = described(endpoint.body, likely)
        body = data.draw(body | st.lists(body, max_size=4) | ANYTHING | st.binary(max_size=40))
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        kind = data.draw(st.sampled_from(["application/json", "application/x-ndjson", "image/png", "text/plain", ""]))
        fuzzed.send(endpoint.method, path, params={k: str(v) for k, v in query.items()}, content=content,
                    headers={"content-type": kind})  # fmt: skip
        taken.append(memory(server))

    for begin in range(0, BY_MEANING, BATCH):
        some = settings(max_examples=min(BATCH, BY_MEANING - begin), derandomize=FEW, **EVERYTHING)
        seed(SEED + begin)(some(given(st.data())(check)))()
        fuzzed.look()
    quarters = [taken[len(taken) * part // 4] for part in range(1, 4)] + [taken[-1]]
    grown = [after - before for before, after in pairwise(quarters)]
    assert min(grown) < MOST, grown  # what is loaded once, however late, makes one of them larger


TIMES = (
    *("0001-01-01T00:00:00+14:00", "0001-01-01", "9999-12-31T23:59:59-14:00", "1969-12-31T23:59:59Z", "1990-01-01"),
    *("2026-01-01T00:00:00Z", "2099-01-01", "2026-01-01", "24:00", "now", "1700000000", "-1", "1e308", "nan"),
    *(0, -1, 1, 631_152_000, 1_700_000_000, 1_700_000_000_000, 1_700_000_000_000_000, 10**11, 10**14, 10**17, 10**30),
    *(1.5, -62_135_647_200, 253_402_300_799, 5e-324, 1e308),
)
NUMBERS = (0, -1, 1, 2, 7, 1_000, 2**31, 2**53, 2**63 - 1, 2**63, 2**70, -(2**63), 10**30, 0.5, -0.0, 5e-324, 1e308)
TEXTS = (
    *("", " ", "\0", "\ud7ff", "💺" * 300, "../../etc/passwd", "%00", "' OR 1=1 --", "{{7*7}}", "a" * 5_000, "-1"),
    *("nan", "=1+1", "+49", "@SUM(A1)", "price < 30", "\u202e", "None", "a\nb", "{", "[]", "é", "x:y"),
)
LIKELY = {
    **dict.fromkeys(("timestamp", "Timestamp", "time", "sentAt", "sent_at", "timestamp_micros"), TIMES),
    **dict.fromkeys(("event", "FeedbackType", "type", "eventType", "name"), (
        "view", "view_item", "purchase", "add_to_cart", "impression", "return", "rating", "search", "identify",
        "user_upsert", "item_upsert", "item_withdraw", "track", "read",
    )),
    **dict.fromkeys(("k", "count", "n", "numResults"), (1, 2, 5, 30)),
    "where": ("price < 30", "category = chairs", "price <", "not (price > 3 and price < 2)"),
    "language": ("en", "ja", "xx"),
    "data": ({"price": 3}, {"price": 10**30}, {"title": "=1"}, {"price": "x"}, {}),
    "attributes": ({"price": 3}, {"price": 10**30}, {"title": "=1"}, {"price": None}, {"active": False}),
}  # fmt: skip
PEOPLE = ("user_id", "anonymous_id", "session_id", "userId", "UserId", "anonymousId", "client_id", "user")
ITEMS = ("item_id", "itemId", "ItemId", "item", "similar_to")
HEAVY = {path: 0.02 for path in MANY} | {"/v1/users/{user_id:path}": 0.2, "/v1/users/object": 0.2}


class MadeUp:
    """Requests that a shop's page might send, with something odd in them now and then; made in no time."""

    def __init__(self, chance, people, items):
        self.chance, self.people, self.items, self.number = chance, people, items, 0
        self.endpoints = [*ENDPOINTS, *DIALECTS]
        self.weights = [HEAVY.get(one.path, 4.0 if one.path == "/v1/events" else 1.0) for one in self.endpoints]

    def request(self):
        (endpoint,) = self.chance.choices(self.endpoints, self.weights)
        path = re.sub(r"{(\w+)(:\w+)?}", lambda name: quote(str(self.named(name[1])), safe=""), endpoint.path)
        body, query, chance = self.odd(), {}, self.chance.random()
        if endpoint.body is not None and chance < 0.97:
            body = self.of(msgspec.inspect.type_info(endpoint.body))
        elif endpoint.media and chance < 0.97:
            body = [self.event() for _ in range(self.chance.choice((1, 1, 1, 3)))]
        if endpoint.query is not None:
            query = {name: str(value) for name, value in self.of(msgspec.inspect.type_info(endpoint.query)).items()}
        kind = {"content-type": self.chance.choice(("application/json",) * 9 + ("application/x-ndjson",))}
        return endpoint.method, path, {"params": query, "content": msgspec.json.encode(body), "headers": kind}

    def event(self):
        self.number += 1
        known = {"event_id": f"f{self.number}", "event": "view", "user_id": 0, "item_id": 0, "timestamp": 0}
        more = self.chance.sample(("quantity", "value", "data", "session_id", "position", "transaction_id"), 2)
        names = [*known, *(more if self.chance.random() < 0.5 else ())]
        event = {name: known[name] if name == "event_id" else self.named(name) for name in names}
        if self.chance.random() < 0.1:
            del event[self.chance.choice(names)]
        return event

    def named(self, name):
        """What a field of a name may hold."""
        chance = self.chance.random()
        if chance < 0.1:
            return self.odd()
        if name in PEOPLE:
            return self.chance.choice(self.people)
        if name in ITEMS:
            return self.chance.choice(self.items)
        if name in LIKELY:
            return self.chance.choice(LIKELY[name])
        return self.chance.choice(NUMBERS if chance < 0.5 else TEXTS)

    def odd(self, depth=0):
        chance = self.chance.random()
        if depth < 3 and chance < 0.15:
            return [self.odd(depth + 1) for _ in range(self.chance.randrange(3))]
        if depth < 3 and chance < 0.3:
            return {self.chance.choice(TEXTS)[:9]: self.odd(depth + 1) for _ in range(self.chance.randrange(3))}
        return self.chance.choice((*NUMBERS, *TEXTS, *TIMES, None, True, False))

    def of(self, kind, name="", depth=0):
        """Something of a type, mostly."""
        if depth > 8 or (depth and self.chance.random() < 0.04):
            return self.odd()
        if isinstance(kind, msgspec.inspect.StructType):
            return {
                field.encode_name: self.of(field.type, field.encode_name, depth + 1)
                for field in kind.fields
                if field.required or self.chance.random() < 0.25
            }
        if name in (*PEOPLE, *ITEMS, *LIKELY):
            return self.named(name)
        if isinstance(kind, msgspec.inspect.UnionType):
            return self.of(self.chance.choice(kind.types), name, depth)
        if isinstance(kind, msgspec.inspect.LiteralType):
            return self.chance.choice(kind.values)
        if isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
            edges = [edge for edge in (kind.ge, kind.le) if edge is not None]
            return self.chance.choice((*edges, *edges, *NUMBERS))
        if isinstance(kind, msgspec.inspect.BoolType):
            return self.chance.random() < 0.5
        if isinstance(kind, msgspec.inspect.NoneType):
            return None
        if isinstance(kind, msgspec.inspect.ListType):
            one = {
                "items": "item_id",
                "exclude": "item_id",
                "candidates": "item_id",
                "session": "item_id",
                "users": "user_id",
            }.get(name, "")
            return [self.of(kind.item_type, one, depth + 1) for _ in range(self.chance.randrange(4))]
        if isinstance(kind, msgspec.inspect.DictType):
            return {self.chance.choice(TEXTS)[:9]: self.odd() for _ in range(self.chance.randrange(3))}
        return self.odd() if isinstance(kind, msgspec.inspect.AnyType) else self.named(name)


def test_no_request_does_lasting_damage(client, trained, fuzzed):
    """Many more requests than could be made up by their description, most of them accepted."""
    made = MadeUp(random.Random(SEED), [trained.user, trained.new_user, "somebody", "visitor", 7], fuzzed.items)
    number = REQUESTS // 2 if FEW else REQUESTS - fuzzed.count
    for _ in range(number):
        method, path, request = made.request()
        fuzzed.send(method, path, **request)
        if len(fuzzed.batch) >= BATCH:
            fuzzed.look()
    fuzzed.look()
    assert fuzzed.accepted > fuzzed.count // 20
