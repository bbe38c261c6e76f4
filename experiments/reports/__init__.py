"""Reports of results: claims, figures, tables."""
