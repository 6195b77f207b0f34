"""The back room: what maintainers need and no notebook imports."""
