"""Wanted against found: the engine, then one state machine a kind."""
