"""From an encoder and few labels to honest numbers."""
