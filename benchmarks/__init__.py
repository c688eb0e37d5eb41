"""Side-by-side speed: `python -m benchmarks`, or `make bench`; README.md in this folder says what is measured."""
