"""Where a person lies: every file that molar writes, decoded and looked through."""
