"""ConvNeXt: sizes and names, the fast block, what transformers loads."""
