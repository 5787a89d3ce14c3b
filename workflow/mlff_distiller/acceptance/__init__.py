"""The student against its teacher by a chemist's measures: geometries, vibrations, torsions, conformers, dimers, smoothness."""
