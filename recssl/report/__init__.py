"""One HTML file about a recommender: its log, its training and what it recommends."""
