"""Images: decoding, preprocessing, augmentation, sources."""
