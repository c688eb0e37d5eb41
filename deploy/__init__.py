"""Runs the image on clusters, and tries it before it goes there."""
