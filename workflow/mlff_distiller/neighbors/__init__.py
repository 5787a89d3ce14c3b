"""Neighbor search, by several backends of one interface."""
