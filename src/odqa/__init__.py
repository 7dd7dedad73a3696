"""Open-domain question answering over a folder of documents."""
