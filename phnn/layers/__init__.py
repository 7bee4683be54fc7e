"""Layers: one concept per file; infrastructure behind an underscore."""
