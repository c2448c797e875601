"""Random image transforms that change a whole batch at once, each sample in its own way."""
