"""Settings of the commands, one section each."""
