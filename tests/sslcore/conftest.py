"""Property tests draw the same few examples each time, and may be slow on a busy machine."""

from hypothesis import settings

settings.register_profile("steady", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("steady")
