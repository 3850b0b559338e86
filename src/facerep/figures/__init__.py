"""The look of every figure, charts and galleries."""
