"""The student: a small PaiNN that predicts the energy of a molecule, and the file it travels in."""

from mlff_distiller.student.checkpoint import load_student, save_student
from mlff_distiller.student.painn import StudentConfig, StudentForceField

__all__ = ["StudentConfig", "StudentForceField", "load_student", "save_student"]
