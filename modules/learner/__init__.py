"""What all methods share: the contract, the outer loop, evaluation, checks and checkpoints."""
