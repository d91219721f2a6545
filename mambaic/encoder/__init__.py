"""What only an encoder does: searches and fits. A decoder never imports it."""
