"""DVC's bucket, with plain sentences when it fails."""
