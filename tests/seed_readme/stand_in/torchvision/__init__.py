"""Stands in for torchvision, which the tests do not install."""
