"""Glyphs, the embedded data set."""
