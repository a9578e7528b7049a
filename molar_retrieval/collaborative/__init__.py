"""Collaborative factors by implicit ALS."""
