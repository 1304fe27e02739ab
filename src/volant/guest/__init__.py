"""The host's end of the channel to kestrel, the agent in every guest. docs/guest-protocol.md is the specification."""
