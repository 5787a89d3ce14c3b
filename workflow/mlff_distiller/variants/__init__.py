"""The ways of running the student: built, proven to equal it, and loaded."""
