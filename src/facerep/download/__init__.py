"""The stage download: URLs to data/raw."""
