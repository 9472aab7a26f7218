"""Scripts that print tables of speed, memory and accuracy."""
