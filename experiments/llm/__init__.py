"""Language models in Tunix (extra `tunix`)."""
