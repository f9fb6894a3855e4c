"""Supervised fine-tuning: data, the training step of each backend, runs that can be resumed, adapters."""
