"""Every endpoint there is."""

from molar_serving.endpoint import Endpoint
from molar_serving.endpoints import events, health, recommendations

ENDPOINTS: tuple[Endpoint, ...] = (*recommendations.ENDPOINTS, *events.ENDPOINTS, *health.ENDPOINTS)
