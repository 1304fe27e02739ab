"""The operator's command line. Modules are loaded when their command is asked for, so that each start is quick."""
