"""Models in the form of Hugging Face: reading a folder of a BERT model without PyTorch, and building its network."""
