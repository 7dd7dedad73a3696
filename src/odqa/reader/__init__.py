"""Question and passages to spans."""
