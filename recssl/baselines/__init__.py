"""What a method has to beat: recommenders that need no gradient."""
