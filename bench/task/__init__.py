"""One task in one fresh process: what it is told, what it builds, what it answers."""
