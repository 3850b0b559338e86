"""People who do not exist, drawn by the project itself."""
