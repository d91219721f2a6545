"""What a decoder does after g_s: rotation back, post-filter, grain."""
