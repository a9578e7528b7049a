"""How a check of the data is shown: terminal and page."""
