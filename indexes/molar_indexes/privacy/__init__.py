"""What a workspace knows of a person, and where it lies."""
