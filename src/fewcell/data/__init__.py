"""Datasets: where images and labels lie, how to split them, and crops to learn from."""
