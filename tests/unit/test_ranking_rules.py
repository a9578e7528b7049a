"""``rules.toml``: what is read, what is refused and how the message helps."""

from datetime import datetime
from pathlib import Path

import pytest

from molar_retrieval.errors import SettingsError
from molar_retrieval.ranking.filters import And, Between, Equals, Not, OneOf
from molar_retrieval.ranking.rules import Rules

ITEMS = {"item_id": "keyword", "brand": "keyword", "stock": "integer", "year": "integer"}
USERS = {"country": "keyword"}


def load(tmp_path: Path, text: str) -> Rules:
    path = tmp_path / "rules.toml"
    path.write_text(text, "utf-8")
    return Rules.load(path, ITEMS, USERS)


def test_limits_join_conditions_and_names(tmp_path: Path) -> None:
    rules = load(
        tmp_path,
        """
        [[rule]]
        require = "stock > 0"
        [[rule]]
        ban = "brand = Acme"
        [[rule]]
        ban = ["7", "8"]
        [[rule]]
        at_most = 2
        per = "brand"
        """,
    )
    found = rules.for_user({})
    assert [rule.rule.title for rule in found.caps] == ["max 2 per brand"]
    assert found.where == And((Between("stock", gt=0), Not(Equals("brand", "Acme"))))
    assert found.banned == {"7", "8"}
    assert rules.for_user({}) is found


def test_rules_say_which_items_they_keep_out(tmp_path: Path) -> None:
    text = (
        '[[rule]]\nrequire = "stock > 0"\n[[rule]]\nban = "brand = Acme"\nfor = "country = JP"\n'
        '[[rule]]\nban = ["7"]\n[[rule]]\nboost = "stock > 9"\n[[rule]]\npin = ["8"]\n'
    )
    rules = load(tmp_path, text)

    def against(**item: object) -> list[tuple[str, str | None]]:
        return [(rule.title, rule.segment) for rule in rules.against(item)]

    assert against(item_id="8", stock=3, brand="Own") == []
    assert against(item_id="8", stock=0, brand="Acme") == [
        ("require stock > 0", None), ("ban brand = Acme", "country = JP")
    ]  # fmt: skip
    assert against(item_id="7", brand="Own") == [("require stock > 0", None), ("ban 7", None)]


def test_segments_choose_who_a_rule_is_for(tmp_path: Path) -> None:
    text = '[[rule]]\nboost = "brand = Own"\nfor = "country = JP"\n[[rule]]\nname = "all"\npin = ["1"]\n'
    rules = load(tmp_path, text)
    for country, boosted in (("JP", ["boost brand = Own"]), ("DE", []), (None, [])):
        found = rules.for_user({"country": country})
        assert [active.rule.title for active in found.weighing] == boosted
        assert [active.rule.title for active in found.pins] == ["all"]


def test_rules_hold_from_a_day_until_another_one(tmp_path: Path) -> None:
    text = """
        [[rule]]
        pin = ["1"]
        from = 2026-12-01
        until = "2026-12-06"
        [[rule]]
        pin = ["2"]
        from = "2026-12-07T00:00+00:00"
        [[rule]]
        ban = ["3"]
        until = "2026-12-06T12:00+09:00"
    """
    rules = load(tmp_path, text)

    def pinned(when: str) -> list[tuple[str, ...] | None]:
        now = datetime.fromisoformat(when)
        assert rules.for_user({}, now) is rules.for_user({}, now)
        return [active.rule.pin for active in rules.for_user({}, now).pins]

    assert pinned("2026-11-30T23:59:59Z") == []
    assert pinned("2026-12-01T00:00:00Z") == pinned("2026-12-06T23:59:59Z") == [("1",)]
    assert pinned("2026-12-07T00:00:00Z") == pinned("2030-01-01T00:00:00Z") == [("2",)]
    for when, banned in (("2026-12-06T02:59:59Z", {"3"}), ("2026-12-06T03:00:00Z", set())):
        assert rules.for_user({}, datetime.fromisoformat(when)).banned == banned
        assert {rule.title for rule in rules.against({"item_id": "3"}, datetime.fromisoformat(when))} == (
            {"ban 3"} if banned else set()
        )


def test_pins_of_other_days_may_take_the_same_place(tmp_path: Path) -> None:
    days = [f"2{n:03d}-01-01" for n in range(1000)]
    pins = "".join(f'[[rule]]\npin = ["{n}"]\nfrom = {day}\nuntil = {day}\n' for n, day in enumerate(days))
    bans = "".join(f'[[rule]]\nban = ["{n}"]\nuntil = 1999-12-31\n' for n in range(1000))
    assert len(load(tmp_path, pins + bans).all) == 2000
    for more, words in (
        (f'[[rule]]\npin = ["x"]\nfrom = {days[7]}\nuntil = {days[7]}', "both '7' and 'x'"),
        (f'[[rule]]\npin = ["7"]\nat = 3\nfrom = {days[6]}\nuntil = {days[8]}', "'7' is pinned twice"),
        (f'[[rule]]\nban = ["7"]\nfrom = {days[6]}\nuntil = {days[8]}', "'7' is pinned and banned"),
    ):
        with pytest.raises(SettingsError, match=words):
            load(tmp_path, pins + more)


def test_bans_of_words_and_equal_conditions_become_one(tmp_path: Path) -> None:
    text = "".join(f"[[rule]]\nban = {ban!r}\n" for ban in ("brand = A", "year = 3", "brand in (B, A)", "year = 3"))
    found = load(tmp_path, text + "[[rule]]\nrequire = 'stock > 0'\n" * 2).for_user({})
    assert found.where == And((Not(Equals("year", 3)), Between("stock", gt=0), Not(OneOf("brand", ("A", "B")))))
    assert found.words == ()


def test_thousands_of_banned_words_are_left_to_be_looked_up(tmp_path: Path) -> None:
    found = load(tmp_path, "".join(f"[[rule]]\nban = 'brand = B{n}'\n" for n in range(10_000))).for_user({})
    assert found.where is None
    assert found.words == (OneOf("brand", tuple(f"B{n}" for n in range(10_000))),)
    assert found.limits


def test_of_caps_on_a_field_the_strictest_holds(tmp_path: Path) -> None:
    caps = ((3, "brand"), (2, "brand"), (2, "brand"), (5, "year"))
    text = "".join(f"[[rule]]\nat_most = {most}\nper = '{field}'\n" for most, field in caps)
    assert [cap.rule.title for cap in load(tmp_path, text).for_user({}).caps] == ["max 2 per brand", "max 5 per year"]


@pytest.mark.parametrize(
    ("rule", "count", "words"),
    [
        ("require = 'stock > {n}'", 101, "101 comparisons, more than 100"),
        ("ban = 'year = {n}'", 101, "101 comparisons, more than 100"),
        ("boost = 'brand = A'", 101, "101 rules of boost, bury, fresh, at_least, more than 100"),
        ("fresh = 'year'", 101, "more than 100"),
        ("at_most = 1\nper = 'brand'", 10_001, "10,001 rules, more than 10,000"),
        ("ban = {many}", 2, "100,002 named items, more than 100,000"),
        ("ban = ['1']\nfor = 'country = C{n}'", 201, "201 different parts of the users"),
        ("pin = ['1']\nat = 10001", 1, "less than or equal to 10000"),
        ("boost = 'brand = A'\nby = inf", 1, "by"),
        ("ban = 'brand = {long}'", 1, "4,096"),
    ],
)
def test_more_rules_than_an_answer_can_bear_are_refused(tmp_path: Path, rule: str, count: int, words: str) -> None:
    filled = {"many": ["x"] * 50_001, "long": "x" * 5000}
    text = "".join(f"[[rule]]\n{rule.format(n=n, **filled)}\n" for n in range(count))
    with pytest.raises(SettingsError) as error:
        load(tmp_path, text)
    assert words in error.value.message
    assert len(error.value.message) < 500


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[rule]]\nboots = 'brand = A'", ["rule 1", "boots", "did you mean 'boost'"]),
        ("[[rules]]\nboost = 'brand = A'", ["rules", "did you mean 'rule'"]),
        ("[[rule]]\nname = 'x'", ["has one of", "none"]),
        ("[[rule]]\nboost = 'brand = A'\nban = ['1']", ["rule 1", "not ban, boost together"]),
        ("[[rule]]\nat_most = 2", ["needs per"]),
        ("[[rule]]\nat_most = 0\nper = 'brand'", ["at_most", "greater than or equal to 1"]),
        ("[[rule]]\nat_least = 1", ["needs of"]),
        ("[[rule]]\nat_most = 2\nper = 'brnad'", ["rule 1 (max 2 per brnad)", "did you mean 'brand'"]),
        ("[[rule]]\nboost = 'brand ='", ["rule 1", "brand ="]),
        ("[[rule]]\nboost = 'colour = red'", ["colour", "brand"]),
        ("[[rule]]\nboost = 'brand = A'\nfor = 'age > 3'", ["age", "country"]),
        ("[[rule]]\nboost = 'brand = A'\nby = -1", ["by", "greater than 0"]),
        ("[[rule]]\npin = ['1']\n[[rule]]\npin = ['2']", ["'1' and '2' are pinned at place 1"]),
        ("[[rule]]\npin = ['1']\n[[rule]]\npin = ['1']\nat = 4", ["'1' is pinned twice"]),
        ("[[rule]]\npin = ['1']\n[[rule]]\nban = ['1']", ["'1' is pinned and banned"]),
        ("[[rule]]\npin = []", ["pin", "at least 1"]),
        ("[[rule]]\npin = ['1']\nuntil = 'Sunday'", ["rule 1", "until", "2026-12-24"]),
        ("rule = 3", ["rule"]),
        ("[[rule]\n", ["not valid TOML"]),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(SettingsError) as error:
        load(tmp_path, text)
    told = f"{error.value.message} {error.value.hint}"
    for word in words:
        assert word in told, told
    assert "rules.toml" in told


def test_a_segment_needs_users(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text("[[rule]]\nban = ['1']\nfor = 'country = JP'", "utf-8")
    with pytest.raises(SettingsError, match="nothing is known of any") as error:
        Rules.load(path, ITEMS, {})
    assert "segments" in error.value.hint


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml"):
        Rules.load(tmp_path / "none.toml", ITEMS, USERS)
