"""Trellis-coded quantisation (TCQ)."""
