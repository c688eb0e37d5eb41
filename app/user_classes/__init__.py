"""A user's own classes: answers for their images, and classifiers to take elsewhere."""
