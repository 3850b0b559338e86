"""The stages probe and evaluate: how good the pretrained and the fine-tuned model are."""
