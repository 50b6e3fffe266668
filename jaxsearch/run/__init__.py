"""One run: built from its config, recorded in its folder, saved and loaded."""
