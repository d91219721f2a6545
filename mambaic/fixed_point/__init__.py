"""Fixed-point twins of the walk's layers: the same integers on every device."""
