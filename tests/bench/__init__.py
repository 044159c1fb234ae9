"""How fast, how big: figures from the lab kernel. `make bench` runs it; nothing here asserts a time."""
