"""One file a concern: how each metric of a subject is measured. A metric knows a subject, never a sweep."""
