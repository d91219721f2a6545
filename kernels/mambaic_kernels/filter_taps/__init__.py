"""Taps of the post-filter and their weighted sums."""
