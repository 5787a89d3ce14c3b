"""What a job says it measured, and questions to all of it."""
