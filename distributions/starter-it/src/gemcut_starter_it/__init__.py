"""Data only: the folder `adapter` holds a LoRA adapter of google/gemma-3-270m in PEFT's files; no code is run."""
