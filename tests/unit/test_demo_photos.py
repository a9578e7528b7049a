from inspect import signature

import numpy as np
import pytest
from PIL import Image

from molar_retrieval.data.demo.photos import SILHOUETTES, SIZE, draw, smooth
from molar_retrieval.data.demo.vocabulary import COLOURS, KIND_BY_NAME, PATTERNS


def photo(kind="tshirt", colour="red", pattern="plain", seed=0) -> Image.Image:
    return draw(kind, colour, pattern, np.random.default_rng(seed))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=float)


def test_every_kind_has_a_silhouette_that_stays_in_the_picture():
    assert set(SILHOUETTES) == set(KIND_BY_NAME)
    for kind, pieces in SILHOUETTES.items():
        points = np.vstack([piece.points for piece in pieces])
        assert np.abs(points).max() < 1.13, kind
        assert any(piece.paint == "fabric" and not piece.width for piece in pieces), kind


@pytest.mark.parametrize("kind", sorted(SILHOUETTES))
@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_kind_can_be_drawn_in_every_pattern(kind, pattern):
    image = photo(kind, "blue", pattern)
    assert (image.size, image.mode) == ((SIZE, SIZE), "RGB")
    assert pixels(image).std() > 15  # there is something on it


def test_a_photo_depends_on_its_generator_only():
    assert photo(seed=5).tobytes() == photo(seed=5).tobytes()
    assert photo(seed=5).tobytes() != photo(seed=6).tobytes()


@pytest.mark.parametrize("kind", ["tshirt", "mug", "cushion", "rug"])
def test_a_thing_shows_its_colour(kind):
    for colour, rgb in COLOURS.items():
        centre = pixels(photo(kind, colour))[90:134, 90:134].reshape(-1, 3).mean(0)
        nearest = min(COLOURS, key=lambda name: np.abs(centre - np.array(COLOURS[name])).sum())
        assert nearest == colour, (kind, colour, centre, rgb)


def test_patterns_can_be_told_from_the_photo_by_a_simple_rule():
    # Horizontal and vertical unevenness of the cloth in the middle of a cushion.
    for seed in range(5):
        unevenness = {}
        for pattern in PATTERNS:
            centre = pixels(photo("cushion", "blue", pattern, seed))[72:152, 72:152].mean(2)
            unevenness[pattern] = centre.std()
        assert unevenness["plain"] < 0.5 * min(unevenness[p] for p in PATTERNS if p != "plain")


def test_the_photo_does_not_tell_what_only_the_text_says():
    # There is no argument for the story or the material, so that they cannot reach the pixels.
    assert set(signature(draw).parameters) == {"kind", "colour", "pattern", "rng"}


def test_a_corner_stays_where_it_is_and_a_curve_passes_its_points():
    square = [(-1, -1, 1), (1, -1, 1), (1, 1, 1), (-1, 1, 1)]
    curve = smooth(square)
    assert np.abs(curve).max() <= 1.1
    for x, y, _ in square:
        assert np.min(np.abs(curve - (x, y)).sum(1)) < 1e-9
    open_curve = smooth([(0, 0), (0.5, 1), (1, 0)], closed=False)
    assert open_curve[0].tolist() == [0, 0]
    assert open_curve[-1].tolist() == [1, 0]
