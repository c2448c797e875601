"""Ranking and self-supervised losses on one encoder."""
