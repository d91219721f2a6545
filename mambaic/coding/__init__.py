"""Entropy coding: what is coded where, with which tables, in which bytes. Knows no networks."""
