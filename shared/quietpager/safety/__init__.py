"""How the product may act without doing harm: pure transition functions, guards, and the one effect."""
