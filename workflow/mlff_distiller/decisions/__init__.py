"""What the records decide: winners, gates, claims, and comparisons of runs."""
