"""Images: files, banks, caches, augmentation, and the base classes of image data sets."""
