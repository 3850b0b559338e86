"""Errors, files, progress bars, cores, buckets: no result depends on it."""
