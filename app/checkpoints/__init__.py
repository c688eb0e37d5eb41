"""Checkpoints: chosen, read, written and gone on from."""
