"""The stage pretrain: pretexts and the questions they are made of."""
