"""Energy and forces as one C++ function: sources, the builder that compiles them for this machine, and the binding."""
