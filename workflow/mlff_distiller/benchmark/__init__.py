"""Timings: one molecule at a time, batches and boxes, through ASE, in MD, and the teacher's own."""
