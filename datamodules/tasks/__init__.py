"""Which examples make task number i: pure functions of (seed, split, i)."""
