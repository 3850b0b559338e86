"""Faces on disk and in memory: shards, roles, pixels, loader, transforms, draws."""
