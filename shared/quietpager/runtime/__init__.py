"""The CloudEvents edge that every function uses, and what it hands to a handler."""
