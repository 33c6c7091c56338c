"""The accountant on the command line; each command is a file with ``DESCRIPTION``, options, run."""
