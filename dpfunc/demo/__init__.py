"""The demonstration: a small network trained on real images with DP-SGD, through the public API."""
