"""The pure core: tensors in, tensors out. Imports torch and nothing else."""
