"""The ``mambaic`` command."""
