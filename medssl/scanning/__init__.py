"""From a folder to a manifest."""
