"""What the student learns from: molecules, geometries, and the teacher's labels."""
