"""What a shop can say on paper of the people in its data: facts with the source of each, and a page that shows them."""
