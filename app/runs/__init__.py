"""A run's folder and all that is written into it while it runs."""
