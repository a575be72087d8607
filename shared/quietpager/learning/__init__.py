"""What is learned from closed incidents."""
