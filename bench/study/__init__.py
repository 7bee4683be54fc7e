"""Accuracy: data, recipes and training."""
