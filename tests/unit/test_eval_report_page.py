"""The page: complete, safe against its data, readable by everyone, the same for the same input."""

import base64
import io
import itertools
import re
from html.parser import HTMLParser
from importlib.resources import files

import made_up_report as made_up
import pytest
from PIL import Image

from molar_eval.report.page import render
from molar_retrieval.reports.html import SIZE, Pictures

EVIL = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """A page taken apart; complains about elements that are not closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.text, self._open = [], [], []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if not self._open or self._open[-1] != "style":
            self.text.append(data)

    def words(self):
        return " ".join(" ".join(self.text).split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalogue")
    (folder / "images").mkdir()
    Image.new("RGB", (900, 1200), (200, 30, 30)).save(folder / "images" / "red.png")
    (folder / "images" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return folder


@pytest.fixture(scope="module")
def text(catalogue):
    return render(made_up.report(), made_up.examples(("images/red.png", None)), Pictures(catalogue))


def test_the_same_input_gives_the_same_page(text, catalogue):
    again = render(made_up.report(), made_up.examples(("images/red.png", None)), Pictures(catalogue))
    assert again == text


def test_nothing_is_fetched_from_anywhere(text):
    page = Page(text)
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/jpeg;base64,", "#"))
    assert not page.all("script")
    assert not page.all("link")
    assert "http" not in text.replace("http-equiv", "")
    assert "@import" not in text
    assert "url(" not in text


def test_every_link_inside_the_page_leads_somewhere(text):
    page = Page(text)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"].removeprefix("#") for a in page.all("a")} <= set(ids)
    assert {s["aria-labelledby"] for s in page.all("section")} <= set(ids)


def test_all_that_comes_from_data_is_escaped(catalogue):
    models = [made_up.model(EVIL, "ours", 0.19), made_up.model(EVIL + "2", "baseline", 0.15)]
    slices = {EVIL: [made_up.SliceScore(value=EVIL, cases=9, users=9, metrics={"ndcg@10": made_up.estimate(0.1)})]}
    models = [
        m.model_copy(
            update={
                "slices": slices,
                "settings": {EVIL: EVIL},
                "facts": {EVIL: {EVIL: [EVIL]}},
                "lists": {EVIL: 0.5, "coverage@10": 0.3},
                "versus": {"ndcg@10": [made_up.comparison(EVIL + "2", 0.04)]},
            }
        )
        for m in models
    ]
    split = made_up.split(name=EVIL, title=EVIL, warning=EVIL, models=models, settings={EVIL: EVIL}, against=EVIL + "2")
    users = made_up.examples().users
    users = [
        u.model_copy(
            update={
                "split": EVIL,
                "targets": [made_up.item(EVIL)],
                "lists": {EVIL: [made_up.item(EVIL)]},
            }
        )
        for u in users
    ]
    report = made_up.report(
        [split],
        title=EVIL,
        suite=EVIL,
        description=EVIL,
        notes=[EVIL],
        settings={EVIL: EVIL},
        made=made_up.report([]).made.model_copy(update={"command": EVIL, "device": EVIL, "versions": {EVIL: EVIL}}),
    )
    page = Page(render(report, made_up.ReportExamples(catalogue=EVIL, users=users), Pictures(catalogue)))
    assert not page.all("script")
    assert not page.all("img")
    assert all(not name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert page.words().count(EVIL) > 20


def test_the_verdict_comes_before_the_numbers(text):
    said = Page(text).words()
    assert "molar beats the best other method, SASRec, by 6 %" in said
    order = [
        "Bottom line",
        "Every test",
        "For whom it is worse",
        "What it costs",
        "In numbers",
        "What each part is worth",
    ]
    order += ["Caution:", "Made by"]
    places = [said.index(part) for part in order]
    assert places == sorted(places)
    for part in (
        "content kNN is better, but perhaps by chance",
        "57 min to train molar",
        "no uplift",
        "too few to tell",
    ):
        assert part in said


def folded(text):
    """What is said inside of details that are closed, by their summary."""
    found = re.findall(r"<details><summary>(.*?)</summary>(.*?)</details>", text, re.DOTALL)
    return {summary: re.sub("<.*?>", " ", rest) for summary, rest in found}


def only(split, tmp_path):
    return render(made_up.report([split], tables=[], notes=[]), None, Pictures(tmp_path))


def test_groups_whose_difference_may_be_chance_are_folded(tmp_path):
    """The clear ones are seen at once; in made-up groups the intervals of the large ones lie apart."""

    def with_groups(name, kind, ndcg, tests=()):
        parts = [("large", 4000, 0.004), ("small", 40, 0.2), ("tiny", 4, None)]
        each = [
            made_up.SliceScore(
                value=value, cases=n, users=n, metrics=half and {"ndcg@10": made_up.estimate(ndcg, half)}
            )
            for value, n, half in parts
        ]
        return made_up.model(name, kind, ndcg, slices={"size": each}, versus={"ndcg@10": list(tests)})

    ours = with_groups("molar", "ours", 0.15, [made_up.comparison("EASE", -0.04)])
    text = only(made_up.split(models=[ours, with_groups("EASE", "baseline", 0.19)], against="EASE"), tmp_path)
    inside = folded(text)
    seen = re.sub("<details>.*?</details>", "", text, flags=re.DOTALL)
    (chance,) = [rest for summary, rest in inside.items() if summary.startswith("2 groups where the difference may")]
    assert "small" in chance
    assert "4 users: too few to tell" in chance
    assert "large" not in chance
    assert "EASE is clearly better" in seen
    assert "perhaps by chance, 0.1900 against 0.1500" not in seen
    assert "small" in inside["1 group where another is better, but perhaps by chance"]
    axes = [
        re.findall(r'class="line axis".*?</svg>', part, re.DOTALL)[0]
        for part in (seen, text[text.index("2 groups where") :])
    ]
    assert axes[0] != axes[1], "wide intervals that are folded do not squeeze what is seen"


@pytest.mark.parametrize(
    ("cases", "rate", "shown"), [(6040, 0.3, True), (400, 0.3, False), (6040, 0.03, False), (6040, 0.99, False)]
)
def test_calibration_needs_enough_hits_and_misses(tmp_path, cases, rate, shown):
    bins = [
        made_up.CalibrationBin(score=0.2 * at, hit_rate=rate * (0.9 + 0.02 * at), cases=cases // 10) for at in range(10)
    ]
    text = only(made_up.split(models=[made_up.model(calibration=bins)], cases=cases), tmp_path)
    assert ("Does a higher score mean more hits?" in text) is shown
    assert ("Whether a higher score means more hits cannot be told from" in text) is not shown


def test_titles_are_plain_and_the_name_of_the_test_stands_beside(tmp_path):
    text = only(made_up.split(title="cold users: next"), tmp_path)
    assert re.search(
        r'<h2 id="split-1">People who have just come</h2>\s*<p class="quiet"><code>cold users: next</code>', text
    )
    assert '<a href="#split-1">People who have just come</a>' in text


def test_metrics_of_each_length_are_a_table_of_their_own(text):
    for k in (5, 10, 20):
        (found,) = re.findall(
            rf'<table aria-label="All metrics, Leave-one-out, first {k}">.*?</thead>', text, re.DOTALL
        )
        heads = re.findall('<th scope="col".*?>(.*?)</th>', found)
        assert heads[0] == "model"
        assert len(heads) == 1 + len(made_up.METRICS)
        assert all(head.endswith(f"@{k}") for head in heads[1:])


@pytest.mark.parametrize(
    "split",
    [
        made_up.split(models=[]),
        made_up.split(models=[made_up.model()]),
        made_up.split(models=[made_up.model(metrics={}, lists={}, slices={}, calibration=[], kpi={})], index=[]),
        made_up.split(
            models=[made_up.model(lists={"coverage@10": None}, slices={}), made_up.model("EASE", "baseline", 0.0)]
        ),
        made_up.split(models=[made_up.model("EASE", "baseline"), made_up.model("no image", "ablation")]),
        made_up.split(models=[made_up.model(slices={"age": []}), made_up.model("EASE", "baseline", versus={"x": []})]),
        made_up.split(models=[made_up.model(calibration=made_up.model().calibration[:1])], cases=0, users=0),
        made_up.split(primary="mrr@7"),
    ],
    ids=["nothing", "one model", "no numbers", "null", "no ours", "empty", "no cases", "unknown primary"],
)
def test_missing_parts_are_left_out(split, tmp_path):
    page = Page(render(made_up.report([split], tables=[], notes=[]), None, Pictures(tmp_path)))
    assert "A few users" not in page.words()
    assert "Settings" in page.words()
    assert not [t for t in page.all("svg") if "nan" in str(t)]


def test_photos_are_small_and_in_the_page(text):
    sources = {attributes["src"] for attributes in Page(text).all("img")}
    (source,) = sources
    image = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
    assert image.format == "JPEG"
    assert image.width <= SIZE[0]
    assert image.height <= SIZE[1]
    assert all(abs(value - meant) < 6 for value, meant in zip(image.getpixel((5, 5)), (200, 30, 30), strict=True))


@pytest.mark.parametrize("photo", [None, "images/gone.jpg", "images/broken.jpg", "../secret.jpg", "https://a.b/c.jpg"])
def test_a_photo_that_cannot_be_shown_becomes_a_placeholder(catalogue, photo):
    (catalogue.parent / "secret.jpg").write_bytes((catalogue / "images" / "red.png").read_bytes())
    page = Page(render(made_up.report(), made_up.examples((photo,)), Pictures(catalogue)))
    assert not page.all("img")
    assert len([svg for svg in page.all("svg") if svg.get("class") == "none"]) == 2 * 41


def test_readers_of_all_kinds_are_thought_of(text):
    page = Page(text)
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(cell["scope"] in ("row", "col") for cell in page.all("th"))
    assert all(table["aria-label"] for table in page.all("table"))
    assert all("alt" in image for image in page.all("img"))
    outer = [s for s in page.all("svg") if s.get("class") not in ("at",)]
    assert all(s.get("aria-hidden") == "true" or s.get("role") == "img" for s in outer)
    assert len(page.all("td")) > 500


def test_the_plots_have_a_mark_for_every_model(text):
    page = Page(text)
    classes = [attributes.get("class", "") for tag, attributes in page.elements if tag in ("circle", "path")]
    baselines = [kind for _, kind, *_ in made_up.MODELS].count("baseline")
    ablations = [kind for _, kind, *_ in made_up.MODELS].count("ablation")
    # Two splits: in the intervals each mark and its key, in two planes a mark, ten calibration points and a key.
    examples, legend = 2 * 2, 1
    assert classes.count("mark baseline") == 2 * (baselines * 4 + 11) + examples + legend
    assert classes.count("mark ablation") == 2 * (ablations * 2 + (ablations - 1) * 2) + legend


def luminance(colour):
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


def test_all_text_has_enough_contrast_in_light_dark_and_print():
    css = (files("molar_retrieval.reports") / "templates" / "style.css").read_text("utf-8")
    palettes = [dict(re.findall(r"--(\w+): (#\w+)", block)) for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)]
    assert len(palettes) == 3
    for colours in palettes:
        colours = {
            name: c if len(c) == 7 else "#" + "".join(2 * digit for digit in c[1:]) for name, c in colours.items()
        }
        for name in ("ink", "quiet", "accent"):
            assert contrast(colours[name], colours["paper"]) >= 4.5, name
    assert set(re.findall(r"(?<!-)color: var\(--(\w+)\)", css)) <= {"ink", "quiet", "accent"}
    assert set(re.findall(r"var\(--(\w+)\)", css)) <= set(palettes[0])
