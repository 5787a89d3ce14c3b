"""How fast can a small distilled force field run on this machine, with proof that it stays correct."""
