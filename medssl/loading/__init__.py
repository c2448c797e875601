"""From manifest rows to batches of canvases."""
