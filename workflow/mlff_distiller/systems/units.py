"""Units and constants in eV, A and K (CODATA 2018; those of the elementary charge, Boltzmann and Planck are exact)."""

HARTREE = 27.211386245988
BOHR = 0.529177210903
KJ_PER_MOL = 1000 / (1.602176634e-19 * 6.02214076e23)
KCAL_PER_MOL = 4.184 * KJ_PER_MOL
#: eV/A^3.
GPA = 1 / 160.2176634
#: eV/K.
BOLTZMANN = 8.617333262e-5
#: eV/THz.
PLANCK = 4.135667696e-3
