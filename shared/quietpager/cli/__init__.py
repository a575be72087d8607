"""What the functions run on: sandbox, local host and broker, commands."""
