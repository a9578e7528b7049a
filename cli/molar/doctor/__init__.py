"""`molar doctor`: what this installation, machine and workspace are like, and what is wrong with them."""

from molar.doctor.examine import examine
from molar.doctor.health import Entry, Health, HealthState, Section

__all__ = ["Entry", "Health", "HealthState", "Section", "examine"]
