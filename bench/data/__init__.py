"""Data sets: loaders, the embedded Fashion-MNIST test set, toy densities, detection scenes."""
