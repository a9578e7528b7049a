"""The made-up demo shop."""
