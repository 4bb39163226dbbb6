"""Pure painters (a scene and a size in, lines out) and the one widget that puts lines on the screen."""
