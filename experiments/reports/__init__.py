"""What was found, as pages for people: claims, figures, tables."""
