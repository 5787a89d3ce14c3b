"""NVE of a bundle in each engine that people run MD with, measured: one module for each, which imports the engine."""
