"""Timings of the package beside what else its users would write. `python -m benchmarks` runs them."""
