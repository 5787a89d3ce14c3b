"""Fused Triton kernels of the student's energy and forces; :mod:`mlff_distiller.potentials.triton` puts them together.

Layout that all of them share: every atom i has a row of ``capacity`` slots; slot e of row i holds one neighbor j of i and
its geometry (unit vector from i to j, distance). A pair is in both rows, so that sums over receivers and sums over senders
are both sums over a row: no atomics, and the same bits every time. NOTES.md has the phases, their cost and the measurements.
"""
