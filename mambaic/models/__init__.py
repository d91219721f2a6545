"""The codec's networks as a whole: transforms, presets grown from others, their cost."""
