"""Version 1 of the wire form; generated, never edited by hand."""
