"""One level of the CDF 9/7 wavelet."""
