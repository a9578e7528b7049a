"""Scales, ticks and marks against plain arithmetic."""

import itertools
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molar_eval.report import plots
from molar_eval.report.plots import Curve, Point
from molar_eval.report.schema import Estimate
from molar_retrieval.reports import charts as svg
from molar_retrieval.reports.charts import Scale

SIZES = st.floats(1e-6, 1e6)


@given(low=st.floats(-1e3, 1e3), width=SIZES)
def test_ticks_are_round_even_and_inside(low, width):
    scale = Scale(low, low + width)
    ticks = scale.ticks()
    assert len(ticks) <= 6
    assert all(low - 1e-6 * width <= tick <= low + width * (1 + 1e-6) for tick in ticks)
    steps = [after - before for before, after in itertools.pairwise(ticks)]
    assert all(step == pytest.approx(steps[0]) for step in steps)
    if steps:
        lead = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9)
        assert min(abs(lead - nice) for nice in (1, 2, 5, 10)) < 1e-6


@given(values=st.lists(SIZES, min_size=1, max_size=5))
def test_an_axis_holds_its_values_without_wasting_half(values):
    end = svg.round_up(values)
    assert max(values) <= end * (1 + 1e-9)
    assert max(values) >= end / 2


def test_places_are_linear_or_logarithmic_and_held_within_the_ends():
    scale = Scale(0, 2, 10, 110)
    assert [scale(value) for value in (0, 0.5, 2, 3, -1)] == [10, 35, 110, 110, 10]
    log = Scale(0.1, 1000, 0, 100, log=True)
    assert [log(value) for value in (0.1, 1, 10, 1000, 0)] == pytest.approx([0, 25, 50, 100, 0])
    assert Scale(1, 1, 0, 100)(1) == 50  # one value alone stands in the middle


def test_an_interval_is_drawn_where_it_is():
    drawn = plots.interval(Scale(0, 0.2), Estimate(mean=0.1, low=0.05, high=0.12), "ours", line=0.08)
    assert 'x1="25.00%" x2="60.00%"' in drawn
    assert '<svg x="50.00%"' in drawn
    assert re.search(r'x1="40.00%" x2="40.00%" [^>]*class="against"', drawn)


def test_bars_start_at_zero_and_are_as_long_as_their_means():
    entries = [
        (Estimate(mean=0.1, low=0.05, high=0.12), "ours"),
        (Estimate(mean=0.05, low=0.04, high=0.06), "baseline"),
    ]
    drawn = plots.bars(Scale(0, 0.2), entries)
    assert re.findall(r'<rect x="(\S+)" y="\d+" width="(\S+)"', drawn) == [("0.00%", "50.00%"), ("0.00%", "25.00%")]
    assert re.findall(r'class="bar (\w+)"', drawn) == ["ours", "baseline"]


def test_shapes_differ_as_well_as_colours():
    shapes = {kind: re.sub(r'class="[^"]*"', "", svg.mark(kind, 0, 0)) for kind in ("ours", "baseline")}
    assert shapes["ours"] != shapes["baseline"]
    assert "ablation" in svg.mark("ablation", 0, 0)  # a ring: the style sheet fills only ours


def test_names_in_a_plane_do_not_cover_each_other_where_there_is_room():
    points = [Point(f"model {n}", "baseline", 10.0 ** (n % 4), 0.05 + 0.02 * n) for n in range(9)]
    points.append(Point("model 0's twin", "ours", 1.0, 0.051))
    drawn = plots.scatter(points, title="t", x_title="x", y_title="y", seconds=True)
    names = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)" class="name \w+">([^<]+)', drawn)
    assert len(names) == 10
    boxes = [plots._Label(anchor, float(x), float(y)).box(name) for x, y, anchor, name in names]
    for number, one in enumerate(boxes):
        assert plots._clash(one, boxes[:number]) < 3  # square pixels
        assert one[0] >= plots.LEFT - 1
        assert one[2] <= plots.WIDTH + 1


def test_times_are_ticked_with_words():
    assert [label for _, label in svg.times(0.5, 4000)] == ["1 s", "10 s", "1 min", "10 min", "1 h"]


def test_a_curve_goes_through_its_points():
    drawn = plots.curves([Curve("molar", "ours", [(-1, 0.1), (1, 0.3)])], title="t", x_title="x", y_title="y")
    (route,) = re.findall(r'points="([^"]+)"', drawn)
    (x0, y0), (x1, y1) = (tuple(map(float, pair.split(","))) for pair in route.split())
    assert x0 < x1
    bottom, top = plots.HEIGHT - plots.BOTTOM, plots.TOP
    assert (bottom - y0) / (bottom - y1) == pytest.approx(1 / 3, rel=0.01)
    assert y1 == pytest.approx(top, abs=1)


def test_tags_escape_text_and_attributes():
    drawn = str(svg.tag("text", '<&"', x=1.50001, class_='a"b'))
    assert drawn == '<text x="1.5" class="a&#34;b">&lt;&amp;&#34;</text>'


def test_a_legend_that_is_too_long_for_a_row_takes_two():
    lines = [Curve(f"a rather long name {n}", "ours", [(0, 0.1), (1, 0.3)]) for n in range(4)]
    drawn = plots.curves(lines, title="t", x_title="x", y_title="", floor=0.05)
    rows = [float(y) for y in re.findall(r'y="([\d.]+)" text-anchor="end" class="name ours"', drawn)]
    assert len(rows) == 4
    assert len(set(rows)) == 2
