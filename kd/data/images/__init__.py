"""Images: sources, decoding, crops."""
