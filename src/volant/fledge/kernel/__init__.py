"""The guest's kernel and the initramfs that boots it."""
