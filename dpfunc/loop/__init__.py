"""What makes the loop that somebody already has a private one: `dpfunc.engine` puts it together."""
