"""What survives a kill: scratch folders, storage, unfinished work, checkpoints, stopping."""
