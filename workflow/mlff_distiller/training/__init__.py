"""Training the student on a teacher's labels."""
