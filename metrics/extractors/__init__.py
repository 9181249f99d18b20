"""Feature extractors: images in, one row of features an image out; each has a hash that records carry."""
