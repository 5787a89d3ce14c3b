"""Looked at before any work: configuration, machine, inputs, pins, torch-cluster."""
