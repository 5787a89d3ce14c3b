"""Neighbor search: several backends with one interface."""
