"""Lossless coding of blocks of pixels, by decisions under mixed contexts."""
