"""Experiments on people: what one can see before it begins."""
