"""The stage select: which face is used for what."""
