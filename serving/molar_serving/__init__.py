"""The answers of a shop over HTTP: `molar serve`. docs/serving.md tells how to ask."""
