"""The codec inside other libraries: Pillow, CompressAI, WebDataset."""
