"""Every endpoint there is."""

from molar_serving.compat import ga4, gorse, personalize, recombee, segment
from molar_serving.endpoint import Endpoint
from molar_serving.endpoints import (
    events,
    experiments,
    generations,
    health,
    items,
    metrics,
    pages,
    photos,
    rankings,
    recommendations,
    rules,
    search,
    status,
    users,
)

ENDPOINTS: tuple[Endpoint, ...] = (
    *recommendations.ENDPOINTS,
    *pages.ENDPOINTS,
    *rankings.ENDPOINTS,
    *search.ENDPOINTS,
    *events.ENDPOINTS,
    *items.ENDPOINTS,
    *photos.ENDPOINTS,
    *users.ENDPOINTS,
    *rules.ENDPOINTS,
    *generations.ENDPOINTS,
    *experiments.ENDPOINTS,
    *status.ENDPOINTS,
    *health.ENDPOINTS,
    *metrics.ENDPOINTS,
)
DIALECTS: tuple[Endpoint, ...] = (
    *gorse.ENDPOINTS,
    *recombee.ENDPOINTS,
    *ga4.ENDPOINTS,
    *segment.ENDPOINTS,
    *personalize.ENDPOINTS,
)
"""What clients of other products ask, who have it described there; the first path that fits is taken."""
