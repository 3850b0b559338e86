"""A study: variants of one recipe, held against a baseline over seeds and label budgets."""
