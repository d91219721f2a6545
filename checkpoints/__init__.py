"""Shipped weights, one folder per checkpoint, found through ``mambaic.checkpoint.shipped``."""
