"""A report as one HTML file: its parts, its look, and what both domains draw in it."""
