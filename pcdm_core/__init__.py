"""Probabilistic cascaded diffusion models: likelihoods, detection, training, command line."""
