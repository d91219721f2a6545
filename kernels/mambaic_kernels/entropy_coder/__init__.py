"""The asymmetric numeral system (ANS)."""
