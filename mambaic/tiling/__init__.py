"""Large pictures piece by piece: boxes and halos, in bounded memory."""
