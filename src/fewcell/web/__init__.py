"""The local web page: see the cells of images and slides, correct them, teach the model, take the results along."""

from fewcell.web.server import serve

__all__ = ["serve"]
