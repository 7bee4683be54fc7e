"""From the tidy table to figures and tables. Knows the table, not the run that made it."""
