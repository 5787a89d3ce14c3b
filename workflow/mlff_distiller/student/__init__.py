"""The student: a small PaiNN that predicts the energy of a system, and the file it travels in."""
