"""LAMMPS: the source of its plug-in, and what goes with it into a bundle."""
