"""Geographic semantic IDs for local-life recommendation, on Ray (after LGSID, arXiv 2511.14221)."""

__version__ = "0.1.0"
