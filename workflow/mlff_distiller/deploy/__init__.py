"""What users run elsewhere: the winners as bundles."""
