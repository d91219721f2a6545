"""Mass of the likelihood's scale mixture."""
