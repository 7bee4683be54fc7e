"""From finished tasks to the rows of the tidy table."""
