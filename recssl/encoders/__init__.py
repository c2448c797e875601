"""From users and items to embeddings."""
