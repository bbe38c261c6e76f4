"""Image classification from prepared tensorflow-datasets."""
