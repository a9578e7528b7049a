"""The options of a query in Python, on the command line, over HTTP and of arms: the same ones, spelled alike."""

import inspect
import sys
from datetime import UTC, datetime
from subprocess import run
from typing import Any, Literal, Unpack, get_args, get_origin, get_type_hints

import msgspec
import pytest
import typer

import molar
from molar_cli.app import app
from molar_indexes.batch import recommend
from molar_indexes.recommender import Recommender
from molar_retrieval.errors import RequestError, SettingsError
from molar_retrieval.experiments.definition import Arm
from molar_retrieval.ranking.query import (
    BATCH_OPTIONS,
    ITEM_OPTIONS,
    OPTIONS,
    SEARCH_OPTIONS,
    BatchQuery,
    ItemQuery,
    Option,
    Query,
    QueryOptions,
    options_of,
)
from molar_serving.app import ENDPOINTS, description
from molar_serving.wire import RecommendationRequest, SearchRequest, SimilarRequest

COMMANDS = {"query": (Query, OPTIONS), "recommend": (BatchQuery, BATCH_OPTIONS)}
DOCUMENT = msgspec.json.decode(msgspec.json.encode(description(ENDPOINTS)))
SCHEMAS = DOCUMENT["components"]["schemas"]
REQUESTS: dict[type[ItemQuery], tuple[str, ...]] = {
    RecommendationRequest: OPTIONS,
    SearchRequest: SEARCH_OPTIONS,
    SimilarRequest: ITEM_OPTIONS,
}


def test_keywords_are_the_fields() -> None:
    kinds = get_type_hints(QueryOptions)
    assert kinds.keys() == set(OPTIONS)
    for name, one in options_of(Query).items():
        parts = {one.kind, *get_args(one.kind)} if get_origin(one.kind) is Literal else {one.kind}
        words = {part for kind in (kinds[name], *get_args(kinds[name])) for part in (kind, *get_args(kind))}
        assert words >= parts or get_origin(one.kind) is tuple, name
        assert (type(None) in words) == one.optional, name


@pytest.mark.parametrize("owner", [molar.Shop, Recommender])
@pytest.mark.parametrize("name", ["query", "similar", "search", "recommend"])
def test_every_call_takes_a_query_and_its_options(owner: Any, name: str) -> None:
    call = getattr(owner, name, recommend)
    found = inspect.signature(call).parameters
    assert found["query"].default is None
    assert found["options"].annotation == Unpack[QueryOptions]
    assert not found.keys() & set(OPTIONS), "they are spelled once"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_has_them(command: str) -> None:
    kind, used = COMMANDS[command]
    params = {one.name: one for one in typer.main.get_command(app).commands[command].params}  # type: ignore[attr-defined]
    for name, one in options_of(kind).items():
        assert (name in params) == (name in used), name
        if name in used:
            own = params[name]
            words = [*own.opts, *own.secondary_opts]
            usual = f"--{name.replace('_', '-')}"
            assert {"k": "-k", "rules": "--no-rules"}.get(name, usual) in words
            assert own.help == one.description
            assert own.default is None, "what is not said is left to the query"
            assert own.show_default in (False, str(one.default))
            assert one.least is None or own.metavar == f"{one.least:,}…{one.most:,}"
            if one.kind is bool and one.default:
                assert f"--no-{name.replace('_', '-')}" in words


def bounds(schema: dict[str, Any]) -> tuple[Any, Any]:
    several = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    (one,) = several
    most = next((one[name] for name in ("maximum", "maxLength", "maxItems") if name in one), None)
    return one.get("minimum"), most


def as_json(one: Option) -> Any:
    return list(one.default) if isinstance(one.default, tuple) else one.default


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_http_has_them(kind: type[ItemQuery]) -> None:
    properties, own = SCHEMAS[kind.__name__]["properties"], options_of(Query)
    assert set(OPTIONS) & properties.keys() == set(REQUESTS[kind])
    for name in REQUESTS[kind]:
        schema, one = properties[name], own[name]
        assert schema["description"] == one.description
        assert schema["default"] == (False if kind is SearchRequest and name == "filter_seen" else as_json(one))
        assert bounds(schema) == (one.least, one.most) or one.kind is str, name
        if get_origin(one.kind) is Literal:
            words = next(each["enum"] for each in schema.get("anyOf", [schema]) if "enum" in each)
            assert sorted(words) == sorted(get_args(one.kind))


def test_an_address_takes_what_a_body_takes() -> None:
    for path in ("/v1/recommendations", "/v1/search"):
        operations = DOCUMENT["paths"][path]
        name = operations["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        found = {one["name"]: one["schema"] for one in operations["get"]["parameters"]}
        assert found.items() <= SCHEMAS[name]["properties"].items()
        assert SCHEMAS[name]["properties"].keys() - found.keys() <= {"arms", "image"}


def test_arms_set_some_of_them() -> None:
    values = {"filter_seen": False, "context": "in_session", "calibrate": "category", "calibration_weight": 0.3}
    assert Arm(options=values).options == values
    assert Query(**values).calibration_weight == 0.3
    for name in OPTIONS:
        if not options_of(Query)[name].extra.get("arm"):
            with pytest.raises(SettingsError, match="no option"):
                Arm(options={name: options_of(Query)[name].default})


def test_every_option_is_checked() -> None:
    wrong: dict[Any, Any] = {bool: 1, str: 5, int: 0, float: 1.01, datetime: datetime(2026, 1, 1), tuple: "SKU-0001"}
    for kind, used in COMMANDS.values():
        for name, one in options_of(kind).items():
            value = wrong.get(get_origin(one.kind) or one.kind, "no such word")
            for bad in (value, object(), None if not one.optional else object()):
                with pytest.raises(RequestError, match=name):
                    kind(**{name: bad})
        assert set(used) <= set(OPTIONS)
    assert Query(as_of=datetime(2026, 1, 1, tzinfo=UTC)).as_of
    with pytest.raises(TypeError, match="diversty"):
        Query(diversty=0.1)  # type: ignore[call-arg]
    with pytest.raises(RequestError, match="concerns the next item"):
        Query(objective="future_items", context="in_session")


def test_ids_of_http_may_be_numbers() -> None:
    asked = msgspec.json.decode(b'{"user_id": 7, "exclude": [1, "b"], "session": [2]}', type=RecommendationRequest)
    assert (asked.user_id, asked.exclude, asked.session) == ("7", ("1", "b"), ("2",))


def test_options_win_over_a_query(trained: Any) -> None:
    with Recommender.open(trained.workspace) as recommender:
        query = Query(k=3, explain=True, fields=("price", "prise"))
        answer = recommender.query(trained.user, query, k=2)
        assert len(answer.items) == 2
        assert answer.items[0].reasons
        told = answer.to_dict()["items"][0]["fields"]
        assert told == {"price": answer.items[0].payload["price"], "prise": None}
        assert [note for note in answer.notes if "'prise'" in note and "'price'" in note]
        assert answer.to_frame().to_pylist()[0]["price"] == told["price"]
        with pytest.raises(RequestError, match="explain changes nothing in the answer of `similar`"):
            recommender.similar("SKU-0001", query)
        with pytest.raises(RequestError, match="no Query"):
            recommender.query(trained.user, 5)  # type: ignore[arg-type]


def test_as_of_is_the_history_and_the_moment_of_then(trained: Any) -> None:
    with Recommender.open(trained.workspace) as recommender, recommender.answering() as answerer:
        users = [one for one in recommender.generation.users.between(0, 60) if len(set(one.times)) > 2]
        for user in users[:5]:
            cut = sorted(set(user.times))[-2]
            until, count = datetime.fromtimestamp(cut, UTC), sum(at <= cut for at in user.times)
            query = Query(k=20, as_of=until, rules=False, explore=False)
            then = recommender.query(user.user_id, query)
            read = answerer.read(user.history[:count], user.times[:count])
            recommender.now = until
            (listing,) = recommender.rank_many([read], Query(k=20, rules=False, explore=False))
            recommender.now = None
            rows = recommender.generation.index.rows([item.item_id for item in then.items])
            assert rows == [placed.row for placed in listing.places]
            (many,) = recommender.rank_many([user], query)
            assert [placed.row for placed in many.places] == rows
        before = recommender.query(users[0].user_id, as_of=datetime(1991, 1, 1, tzinfo=UTC))
        assert before.basis == "popularity"


def test_unknown_users_get_popular_items_and_the_answer_says_so(trained: Any) -> None:
    shop = molar.Shop(trained.shop, trained.workspace)
    assert shop.query("nobody").basis == "popularity"
    with pytest.raises(RequestError, match="no history"):
        shop.query("nobody", fallback="error")


def test_importing_molar_loads_what_a_query_needs_alone() -> None:
    code = "import molar, sys; molar.Query(k=3); print({'numpy', 'pydantic', 'torch', 'pandas'} & set(sys.modules))"
    done = run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
