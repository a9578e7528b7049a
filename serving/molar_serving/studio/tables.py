"""Every screen of the studio, and the navigation."""

from molar_serving.studio import files
from molar_serving.studio.screens import (
    changes,
    data,
    events,
    experiments,
    generations,
    item_map,
    items,
    overview,
    people,
    rules,
    search,
    signing_in,
)
from molar_serving.studio.visit import Screen

SCREENS: tuple[Screen, ...] = (
    *overview.SCREENS,
    *events.SCREENS,
    *items.SCREENS,
    *search.SCREENS,
    *rules.SCREENS,
    *people.SCREENS,
    *generations.SCREENS,
    *experiments.SCREENS,
    *changes.SCREENS,
    *data.SCREENS,
    *item_map.SCREENS,
    *signing_in.SCREENS,
    *files.SCREENS,
)
_ORDER = (
    "overview",
    "people",
    "items",
    "search",
    "rules",
    "generations",
    "experiments",
    "map",
    "data",
    "events",
    "changes",
)
NAVIGATION = {
    name: next(screen.path for screen in SCREENS if screen.nav == name)
    for name in _ORDER
    if any(screen.nav == name for screen in SCREENS)
}
"""Words of ``words/nav.toml`` with the addresses of their screens."""
