"""What people write for fledge, read and checked."""
