"""Box and bilateral means of the post-filter."""
