"""What is in an artifact and how it came to be."""
