"""Host names: asked for by DNS, kept true, and not believed blindly."""
