"""What each step learns from: positives, negatives, and what may not be compared."""
