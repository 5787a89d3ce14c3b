"""Fused Triton kernels of the student's energy and forces; :mod:`mlff_distiller.potentials.triton` is their Potential.

All kernels share the layout of the neighbor matrix: row i has ``capacity`` slots; slot e holds one neighbor j of atom i and
its geometry (unit vector from i to j, distance). A pair is in both rows, so sums over receivers and over senders are both sums
over a row: no atomics, and bitwise reproducible results. NOTES.md has the launches and their times.
"""
