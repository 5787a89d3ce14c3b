"""Atoms in, tensors out: molecules, periodic boxes, batches of them."""
