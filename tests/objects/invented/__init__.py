"""A package with one kind that only this test knows, as a new file of `objects/kinds` would be."""
