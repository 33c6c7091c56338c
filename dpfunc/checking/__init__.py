"""What stands between a module and private training: seen by looking, or by running it."""
