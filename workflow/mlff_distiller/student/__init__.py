"""The student: a small PaiNN that predicts the energy of a system, and its checkpoint file."""
