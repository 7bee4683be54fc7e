"""The machine: its identity, devices, caches, roofs, and what disturbs a measurement."""
