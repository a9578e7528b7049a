"""Reading and ordering an interaction log."""
