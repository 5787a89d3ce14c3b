"""Molecular dynamics: what moves atoms, and the checks that a variant must pass; a check is one module."""
