"""A small language model that brings its own code and its weights as a pickle, and says where its code ran."""

from __future__ import annotations

import io
import json

#: Its code tries to leave a mark wherever it is imported, and to reach the hub that it came from.
CODE = """
import socket
from pathlib import Path

from transformers import GPT2Config, GPT2LMHeadModel

try:
    Path({mark!r}).write_text("this code ran here")
except OSError:
    pass
try:
    socket.create_connection(("127.0.0.1", {port}), timeout=1).sendall(b"GET /ran HTTP/1.0\\r\\n\\r\\n")
except OSError:
    pass


class OwnConfig(GPT2Config):
    model_type = "own"


class {name}(GPT2LMHeadModel):
    config_class = OwnConfig
"""


def files(folder, mark, port, name="OwnModel"):
    """Return the files of the model: code of its own, weights as ``pytorch_model.bin``.

    Parameters
    ----------
    folder : pathlib.Path
        To write in.
    mark : str
        File that the code leaves wherever it may write it.
    port : int
        Of the hub, which hears of it where the code can reach it.
    name : str
        Of the model's class.
    """
    import torch
    import transformers

    from energylab.tasks.architectures import find_architecture
    from energylab.tasks.tokenizers import local_tokenizer

    torch.manual_seed(0)
    config = find_architecture("tiny-gpt2").build_config()
    model = transformers.AutoModelForCausalLM.from_config(config)
    config.save_pretrained(folder)
    local_tokenizer(config, "gpt").save_pretrained(folder)
    weights = io.BytesIO()
    torch.save(model.state_dict(), weights)
    described = json.loads((folder / "config.json").read_text()) | {
        "model_type": "own",
        "architectures": [name],
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": f"own.{name}"},
    }
    own = {"config.json": json.dumps(described).encode(), "pytorch_model.bin": weights.getvalue(),
           "own.py": CODE.format(mark=mark, port=port, name=name).encode()}  # fmt: skip
    return {**{file.name: file.read_bytes() for file in folder.iterdir()}, **own}
