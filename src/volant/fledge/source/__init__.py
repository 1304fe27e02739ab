"""Where content comes from: each kind known by its digests before it is unpacked."""
