"""The .mbic file: header fields, varints, alpha. Knows no networks."""
