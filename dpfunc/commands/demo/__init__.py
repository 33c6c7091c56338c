"""The demonstration: a small network trained on real images with DP-SGD, by the public API.

In: options of the command and a folder of digits.
Out: accuracies, epsilon and a picture.
Read first: `training.py`.
"""
