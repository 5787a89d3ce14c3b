"""CUDA C++ kernels of the student's energy and forces, built by nvcc; NOTES.md has their phases, cost and measurements."""
