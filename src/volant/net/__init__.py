"""The hand that makes networks on this host: bridges, taps and the rules between them."""
