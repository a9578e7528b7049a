"""Privacy of users: pseudonyms, suppression, retention, the search for ids, differentially private statistics."""
