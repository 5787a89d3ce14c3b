"""Ways of running the student, each a variant of one family; the registry says which there are."""
