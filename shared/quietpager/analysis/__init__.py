"""What a person wants to know about a problem no rule knows: evidence, redaction, the page."""
