"""Models: one family per file, each written once over a layer factory."""
