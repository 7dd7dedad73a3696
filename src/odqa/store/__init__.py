"""The index on disk: SQLite is the truth, FAISS a cache of it."""
