"""facerep: does self-supervised pretraining on unlabelled faces help a labelled task, and from how few labels?"""
