"""The process: errors, signals, memory, and what it prints."""
