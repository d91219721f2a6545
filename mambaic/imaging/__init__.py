"""Pictures in and out: Pillow, colour axes, metrics, files that appear whole or not at all."""
