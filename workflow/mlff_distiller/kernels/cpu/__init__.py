"""Energy and forces as one C++ function: sources, compilation for this machine, and the ctypes binding."""
