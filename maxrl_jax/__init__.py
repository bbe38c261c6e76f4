"""Maximum-likelihood reinforcement learning in JAX."""
