"""Requests made up at random, by the OpenAPI page and beside it: whatever comes is answered, in time and as described.

MOLAR_TEST_FUZZ=100000 sends as many; here it is a few hundred.
"""

import json
import os
import re
import time
from pathlib import Path
from urllib.parse import quote

import httpx
import msgspec
import msgspec.inspect
import pytest
import schemathesis
from copies import copy_workspace
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import response_schema_conformance
from web_server import program

from molar_serving.tables import DIALECTS, ENDPOINTS

REQUESTS = int(os.environ.get("MOLAR_TEST_FUZZ", "300"))
DESCRIBED = (501, 503, 507)  # not supported, not now, no room
LONGEST, LONGER = 1.0, 10.0
MANY = (
    "/v1/rules/preview",
    "/v1/generations/diff",
    "/v1/experiments",
)  # whoever looks after the shop asks for the lists of hundreds of people
MOST = 50 << 20  # bytes by which memory may grow in the second half, when models are loaded and each thread has its own
EVERYTHING = {
    "database": None,
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.generate],
}


@pytest.fixture(scope="module")
def server(trained, tmp_path_factory):
    workspace = copy_workspace(trained.workspace, tmp_path_factory.mktemp("fuzzed") / ".molar")
    file = workspace.parent / "molar.toml"
    file.write_text("[serve]\ndeadline = 0.4\n")  # so long a request may wait for events that never come
    with program(workspace, "--settings", str(file)) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with server.client() as client:
        yield client


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
    assert answer.headers["content-type"].startswith(("application/json", "application/problem+json", "text/")), told
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


def test_by_the_openapi_page(client, server):
    """What the page allows and what it does not: no fault of the server, and answers are of the type that it tells."""
    load_all_checks()
    page = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    operations = [found.ok() for found in page.get_all_operations()]
    for operation in operations:
        for mode in GenerationMode if operation.body or operation.query or operation.path_parameters else ():

            @settings(max_examples=max(2, REQUESTS // (4 * len(operations))), derandomize=REQUESTS <= 300, **EVERYTHING)
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case):
                given = case.as_transport_kwargs(base_url=server.address)
                answer = sent(client, given.pop("method"), given.pop("url"), **{k: v for k, v in given.items() if v})
                case.validate_response(answer, checks=[json_or_a_problem, response_schema_conformance])

            check()


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
def likely(trained, client):
    """What fields of their names may hold, and often enough something else."""
    items = [item["item_id"] for item in client.get("/v1/recommendations?user_id=somebody&k=20").json()["items"]]
    item, user = st.sampled_from([*items, "none such"]), st.sampled_from([trained.user, trained.new_user, "visitor", 7])
    moment = st.sampled_from(["2026-01-01T00:00:00Z", "2099-01-01", 1_700_000_000, 1_700_000_000_000, "yesterday"])
    known = {
        "user_id": user, "anonymous_id": user, "userId": user, "UserId": user, "user": user, "client_id": user,
        "item_id": item, "itemId": item, "ItemId": item, "item": item, "k": st.integers(1, 30), "n": st.integers(0, 30),
        "where": st.sampled_from(["price < 30", "category = chairs", "price <", "not (price > 3 and price < 2)"]),
        "language": st.sampled_from(["en", "ja", "xx"]), "seen": st.sampled_from(["hide", "show"]),
        "text": st.text(max_size=40), "event": st.sampled_from(["view_item", "purchase", "add_to_cart", "vieww"]),
        "event_id": st.text(min_size=1, max_size=8), "timestamp": moment, "Timestamp": moment, "time": moment,
        "fields": st.lists(st.sampled_from(["price", "category", "x"]), max_size=3),
        "diversity": st.floats(0, 1), "wait_for": st.integers(0, 5), "FeedbackType": st.sampled_from(["read", "buy"]),
    }  # fmt: skip
    for many, one in (("items", item), ("exclude", item), ("only", item), ("users", user)):
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


def test_by_what_fields_mean(client, likely, server, trained):
    """Every endpoint, those of other products too, asked with what its fields may hold, and with what they may not."""
    every, taken = (*ENDPOINTS, *DIALECTS), []
    photo = next((trained.shop / "images").glob("*.jpg")).read_bytes()  # whatever is loaded once is, before it counts
    assert client.post("/v1/search/photo", content=photo, headers={"content-type": "image/jpeg"}).status_code == 200
    assert client.get("/v1/search?text=a+red+chair").status_code == 200

    @settings(max_examples=REQUESTS // 2, derandomize=REQUESTS <= 300, **EVERYTHING)
    @given(st.data())
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
        sent(client, endpoint.method, path, params={k: str(v) for k, v in query.items()}, content=content,
             headers={"content-type": kind})  # fmt: skip
        taken.append(memory(server))

    check()
    assert taken[-1] - taken[len(taken) // 2] < MOST
