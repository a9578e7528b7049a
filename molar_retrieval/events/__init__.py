"""The event log of a workspace: what people and the catalogue did, appended, never changed."""
