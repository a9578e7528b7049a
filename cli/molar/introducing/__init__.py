"""A change is introduced in stages: begun, looked at, brought further, stopped, written out."""
