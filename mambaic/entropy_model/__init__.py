"""The coding order, and the networks that predict every latent from those before it."""
