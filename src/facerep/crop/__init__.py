"""The stage crop: archives of photographs to shards of square faces."""
