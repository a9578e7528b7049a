"""Statistics of per-case scores: intervals, paired tests, corrections for many tests, seeds."""
