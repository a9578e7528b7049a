"""Models under test: molar itself, its ablations, and baselines."""
