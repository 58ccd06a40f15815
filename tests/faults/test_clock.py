"""The wall clock jumps, and nothing but the acceptance of signatures changes."""
