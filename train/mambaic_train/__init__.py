"""Training of mambaic models."""
