"""Ratios against the plain way and against peers, one script each; README.md says what each measures."""
