"""What others measured, as lines of a store: one file a format."""
