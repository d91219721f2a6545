"""Network blocks. Nothing here knows about entropy coding."""
