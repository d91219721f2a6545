"""Maps of a picture for the post-filter: what surrounds each pixel."""
