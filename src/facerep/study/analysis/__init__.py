"""Compare and decide: intervals, tests, labels saved, the verdict."""
