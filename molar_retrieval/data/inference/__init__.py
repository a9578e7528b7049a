"""Schema inference: what somebody's own tables mean (`molar init`)."""
