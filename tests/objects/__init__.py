"""The kinds of objects: every file of `objects/kinds` by its examples, and a kind that is invented here."""
