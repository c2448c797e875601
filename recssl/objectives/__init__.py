"""Ranking losses: pure functions of embeddings of users, liked items and others."""
