"""Words and pictures for people, from records alone."""
