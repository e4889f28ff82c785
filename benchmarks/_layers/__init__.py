"""What benchmarks/layers.py is made of; the workers run as `python -m _layers.worker`."""
