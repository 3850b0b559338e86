"""Tar and zip archives, read and written, never unpacked."""
