"""Bundles in the engines that people run MD with: one module for each, which imports the engine."""
