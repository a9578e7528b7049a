"""Interleaving without bias, by enumeration; beside team draft and the counting of balanced interleaving."""

from itertools import permutations, product

import pytest

from molar_retrieval.experiments.interleaving import coin, interleave

ARMS = ("control", "treatment")
SEEN = (1.0, 0.6309297535714575, 0.5, 0.43067655807339306)  # 1 / log2(1 + place)


def lists(items, *lengths):
    """All lists of some lengths, which may end early."""
    return [found for length in lengths for found in permutations(items, length)]


def expected(control, treatment, k, worth, seen=SEEN):
    """The expected credit where an item is used with the chance of its place times its worth."""
    both = [interleave(control, treatment, k, first) for first in ARMS]
    return sum(
        chance * worth[item] * found.credits.get(item, 0.0) / 2
        for found in both
        for chance, item in zip(seen, found.items, strict=False)
    )


def team_draft(control, treatment, k):
    """All lists of team draft, each with its chance and the teams of its items (1: the treatment's)."""

    def go(items, teams, turn, chance):
        if len(items) == k:
            yield chance, items, teams
            return
        orders = [turn] if turn else [(-1, 1), (1, -1)]
        for order in orders:
            ranked = control if order[0] == -1 else treatment
            item = next(one for one in ranked if one not in items)
            yield from go([*items, item], [*teams, order[0]], order[1:], chance / len(orders))

    return list(go([], [], (), 1.0))


def by_teams(control, treatment, k, worth):
    """The expected credit of team draft."""
    return sum(
        chance * sum(seen * worth[item] * team for seen, item, team in zip(SEEN, items, teams, strict=False))
        for chance, items, teams in team_draft(control, treatment, k)
    )


def without_interleaving(control, treatment, k, worth):
    """How much more is used of the treatment's list alone."""
    pairs = zip(SEEN[:k], control, treatment, strict=False)
    return sum(seen * (worth[b] - worth[a]) for seen, a, b in pairs)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_whoever_clicks_by_place_alone_prefers_no_arm(k):
    """At each place the credits of both sides of the coin cancel, so they do for all clicks that know places alone."""
    for control, treatment in product([("a", "b", "c", "d"), ("a", "b")], lists("abcdx", 4, 3, 1, 0)):
        one, other = (interleave(control, treatment, k, first) for first in ARMS)
        assert len(one.items) == len(other.items) == len(set(one.items)) == min(k, len({*control[:k], *treatment[:k]}))
        for a, b in zip(one.items, other.items, strict=True):
            assert one.credits.get(a, 0.0) == -other.credits.get(b, 0.0)
            assert a != b or a not in one.credits


def test_each_arm_thinks_more_of_its_own_item_than_of_its_rival():
    for treatment in lists("abcdx", 4):
        for found in (interleave("abcd", treatment, 4, first) for first in ARMS):
            credited = list(found.credits)  # pairs as they are shown, of the last one perhaps half
            for one, other in zip(credited[::2], credited[1::2], strict=False):
                ours, theirs = (one, other) if found.credits[one] > 0 else (other, one)
                assert found.credits[ours] == -found.credits[theirs] > 0
                assert "".join((*treatment, theirs)).index(ours) < "".join((*treatment, theirs)).index(theirs)
                assert ("abcd" + ours).index(theirs) < ("abcd" + ours).index(ours)


def test_the_same_list_twice_is_left_as_it_is_and_counts_for_nobody():
    for first in ARMS:
        found = interleave("abcd", "abcd", 3, first)
        assert found.items == ("a", "b", "c")
        assert found.credits == {}


def test_lists_that_share_nothing_are_compared_by_their_upper_halves_exactly():
    worth = dict(zip("abcdwxyz", (0.1, 0.4, 0.9, 0.9, 0.3, 0.2, 0.0, 0.0), strict=True))
    halves = sum(SEEN[n] * (worth["wxyz"[n]] - worth["abcd"[n]]) for n in range(2))
    assert expected("abcd", "wxyz", 4, worth) == pytest.approx(halves)
    assert expected("abcd", "wxyz", 3, worth) == pytest.approx(halves)  # the second pair is shown by halves


def test_shifted_lists_do_not_favour_an_arm_as_counting_does():
    """Radlinski, Kurup and Joachims 2008: balanced interleaving of abc and bca, one click at random."""
    worth = dict.fromkeys("abc", 1.0)
    counted = 0
    for first, clicked in product(ARMS, range(3)):
        item = interleave("abc", "bca", 3, first).items[clicked]
        depth = min("abc".index(item), "bca".index(item)) + 1
        counted += ("bca"[:depth].count(item)) - ("abc"[:depth].count(item))
    assert counted == 2  # the treatment wins four of six clicks and loses two
    assert expected("abc", "bca", 3, worth) == 0


def test_team_draft_prefers_the_worse_list_where_this_does_not():
    """People take b and c, of which abc has both and bad one: team draft prefers the latter, as b is its first."""
    worth = {"a": 0.0, "b": 1.0, "c": 1.0, "d": 0.0}
    truth = without_interleaving("abcd", "badc", 3, worth)
    assert truth == pytest.approx(1 - SEEN[1] - SEEN[2])
    assert by_teams("abcd", "badc", 3, worth) > 0.5
    assert expected("abcd", "badc", 3, worth) == pytest.approx(truth)


def test_it_is_wrong_a_third_as_often_as_team_draft():
    """Five items of which people take some, all lists of four against one of them: who is said to be better?"""
    wrong = {by_teams: 0, expected: 0}
    for treatment, taken in product(lists("abcde", 4), product((0.0, 1.0), repeat=5)):
        worth = dict(zip("abcde", taken, strict=True))
        truth = without_interleaving("abcd", treatment, 3, worth)
        for method in wrong:
            wrong[method] += truth * method("abcd", treatment, 3, worth) < -1e-12
    assert wrong == {by_teams: 96, expected: 32}


def test_pinned_items_stay_where_both_lists_have_them():
    for first in ARMS:
        found = interleave("apbcq", "xpyqz", 5, first, {"p", "q"})
        assert found.items[1] == "p"
        assert "p" not in found.credits
        assert set(found.items) == {"a", "x", "p", "b", "y"}
        assert {"a", "x"} == {found.items[0], found.items[2]}


def test_the_coin_is_fair_and_the_same_for_the_same_list():
    tosses = [coin(f"request {n}") for n in range(4000)]
    assert tosses == [coin(f"request {n}") for n in range(4000)]
    assert 1850 < tosses.count("treatment") < 2150  # five standard errors


def test_neighbours_that_are_swapped_count_less_than_items_that_one_list_lacks():
    found = interleave("ab", "ba", 2, "treatment")
    assert found.items == ("b", "a")
    assert found.credits == {"b": pytest.approx(0.4525, abs=1e-4), "a": -found.credits["b"]}
    assert interleave("a", "b", 1, "treatment").credits["b"] == 2
