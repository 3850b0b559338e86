"""Errors, files, progress bars, cores, buckets, the process pool: no result depends on it."""
