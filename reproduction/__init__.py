"""Reproduces the papers' Omniglot figures: `python -m reproduction`, or `make reproduce`."""
