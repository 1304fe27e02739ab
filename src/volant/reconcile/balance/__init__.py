"""A deployment's ports: each connection is led to one of its replicas."""
