"""Results as pages: claims, figures, tables."""
