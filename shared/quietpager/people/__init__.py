"""How people are reached and known: the channels, and the console's accounts and roles."""
