"""A study: variants of one recipe, compared with a baseline over seeds and label budgets."""
