"""Recommenders: from an interaction log to embeddings, an index and recommendations."""
