"""From a user to a ranked answer."""
