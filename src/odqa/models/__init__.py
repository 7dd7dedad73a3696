"""Models: what there is, where it lies, and how it runs."""
