"""Run folders: finished tasks as lines, who measures what, merging."""
