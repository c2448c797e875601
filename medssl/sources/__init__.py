"""One reader per kind of file. Nothing here imports torch, so that scan workers start fast."""
