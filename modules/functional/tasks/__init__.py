"""One network applied to T tasks at once."""
