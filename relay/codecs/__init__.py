"""Codecs as batched tables and per-leg coders: payload rows in, PCM rows out."""
