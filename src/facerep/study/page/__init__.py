"""Show: the page of a study, its figures and tables."""
