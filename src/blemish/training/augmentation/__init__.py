"""Augmentation: random changes of training images, with their boxes and masks."""
