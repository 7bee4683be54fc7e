"""What is asked for: sweeps, their cases and groups, filters."""
