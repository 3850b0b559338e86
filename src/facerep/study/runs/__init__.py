"""Plan and run: the runs of a study, their settings and records."""
