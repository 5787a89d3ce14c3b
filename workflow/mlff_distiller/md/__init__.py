"""Checks of molecular dynamics beyond the NVE run of :mod:`mlff_distiller.simulate`, one module each.

:mod:`.timestep` (order of the integrator), :mod:`.thermostat` (canonical ensemble), :mod:`.spectra` (student against
teacher). What the modules share imports no torch, so that the teacher's process may use it, too.
"""
