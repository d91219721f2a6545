"""Suffixes by which folders and archives are searched; the content decides what a file is."""

IMAGE_SUFFIXES = {
    ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".avif",
    ".jp2", ".jxl",
}  # fmt: skip
