"""The embedding pipeline: reader, encoder, writer."""
