"""Several devices, several processes, and batches read by the host."""
