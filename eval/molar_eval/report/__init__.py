"""What an evaluation found, as data, as a page and as a table in the terminal."""
