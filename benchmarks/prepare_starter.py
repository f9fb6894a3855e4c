"""Write the starter's dequantised float32 weights as a Hugging Face folder, for peers that read no GGUF.

python prepare_starter.py GGUF_FILE FOLDER
"""

import shutil
import sys
from pathlib import Path

import torch
import transformers


def main() -> None:
    """Load the GGUF file through transformers and save the plain model."""
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    model = transformers.AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    model.hf_quantizer, model.is_quantized = None, False
    del model.config.quantization_config
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    partial.rename(folder)


main()
