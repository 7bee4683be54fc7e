"""The harness: sweeps a registry of layers and models, measures them, and keeps what it measured in tidy tables."""
