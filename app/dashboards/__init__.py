"""Weights & Biases; nothing else imports it."""
