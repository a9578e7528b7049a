"""Encoders: items in, unit vectors out."""
