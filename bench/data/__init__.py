"""Data: loaders, the embedded Fashion-MNIST test set, toy densities, detection scenes, and laws with known figures."""
