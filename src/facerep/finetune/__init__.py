"""The stage finetune: the labelled task."""
