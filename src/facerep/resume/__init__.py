"""What survives a kill: scratch folders, storage, checkpoints, stopping."""
