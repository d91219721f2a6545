"""Rate-distortion measurement on real files, beside real rivals and published curves."""
