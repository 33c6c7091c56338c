"""What `benchmarks.gpu` asks of a device: laws, the numbers released, steps, launches."""
