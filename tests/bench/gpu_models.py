#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The models of the GPU suite, once for Farsight and once for PyTorch.

  gpu_models.py list                              names
  gpu_models.py config NAME CORPUS PRECISION      a configuration for `farsight train`
  gpu_models.py memory NAME                       GiB that its training needs
  gpu_models.py figures NAME METRICS [LABEL]      the JSON line of a run, from its metrics.jsonl

MFU = (6 N + 6 L C T) tok/s / 989.4e12: N parameters without the table of positions, L layers, C heads x head width,
T tokens; attention counted as its causal half. `mfu_full` counts all of it (12 L C T).
"""
import dataclasses
import json
import statistics
import sys

PEAK = 989.4e12  # dense bf16 of an H100 or H200 SXM, data sheet
WARM_UP = 10     # steps before the timed ones
TIMED = 20


@dataclasses.dataclass(frozen=True)
class Model:
    name: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    mlp_width: int
    vocab: int
    tokens: int
    batch: int
    gpt: bool = False        # learned positions, layer norm, gelu, biases; else RoPE, RMS norm, SwiGLU
    goal: float = 0.0        # MFU
    memory_gib: float = 0.0  # least of the device

    @property
    def head_width(self):
        return self.width // self.heads

    def parameters(self):
        c, kv = self.width, self.kv_heads * self.head_width
        biases = c + 2 * kv + c + self.mlp_width + c if self.gpt else 0
        matrices = c * (c + 2 * kv) + c * c + (2 if self.gpt else 3) * c * self.mlp_width
        norms = (2 * self.layers + 1) * c * (2 if self.gpt else 1)
        return self.vocab * c + self.layers * (matrices + biases) + norms

    def mfu(self, tokens_per_s, attention=6):
        flops = 6 * self.parameters() + attention * self.layers * self.heads * self.head_width * self.tokens
        return flops * tokens_per_s / PEAK


MODELS = {m.name: m for m in (
    Model("gpt2-124m", 12, 768, 12, 12, 3072, 50304, 1024, 32, gpt=True, goal=0.38),
    Model("1.5b", 30, 2048, 16, 8, 5632, 50304, 2048, 4, memory_gib=60),
    Model("3b", 28, 3072, 24, 8, 8192, 128256, 8192, 1, goal=0.55, memory_gib=100),
    Model("shakespeare", 6, 384, 6, 6, 1536, 256, 256, 64, gpt=True),
    Model("tiny", 2, 64, 4, 2, 96, 320, 64, 2),
)}


def configuration(m, corpus, precision):
    kind = ('mlp = "gelu"\nnorm = "layer"\nbias = true\n' if m.gpt else 'mlp = "swiglu"\nnorm = "rms"\n')
    position = "learned" if m.gpt else "rope"
    return f"""[run]
name = "{m.name}"
[data]
train = ["{corpus}"]
sequence = {m.tokens}
pack = "concat"
[model]
layers = {m.layers}
width = {m.width}
heads = {m.heads}
kv_heads = {m.kv_heads}
mlp_width = {m.mlp_width}
vocab = {m.vocab}
tie_embeddings = true
{kind}[attention]
position = "{position}"
[optim]
schedule = "constant"
lr = 1e-4
[train]
steps = "1000000 steps"
batch = "{m.batch} samples"
micro_batch = {m.batch}
precision = "{precision}"
[eval]
every = "0 steps"
[checkpoint]
every = "0 steps"
[log]
every = "2 steps"
"""


def line(m, label, tokens_per_s, peak_bytes, note=""):
    return json.dumps({
        "section": "train", "what": f"train {m.name} {label}", "value": tokens_per_s, "unit": "tok/s",
        "mfu": round(m.mfu(tokens_per_s), 4), "mfu_full": round(m.mfu(tokens_per_s, 12), 4), "goal_mfu": m.goal,
        "memory_gib": round(peak_bytes / 2**30, 2), "batch": m.batch, "tokens": m.tokens, "note": note})


def figures(m, path, label):
    with open(path) as file:
        rows = [json.loads(row) for row in file if row.endswith("\n")]
    rows = [r for r in rows if r.get("split") == "train" and r["step"] > WARM_UP]
    if not rows:
        sys.exit(f"gpu_models.py: {path} holds no step after the warm-up")
    return line(m, label, statistics.median(r["tokens_per_s"] for r in rows), max(r["memory_peak"] for r in rows))


def main(arguments):
    if arguments == ["list"]:
        print(*(name for name in MODELS if name != "tiny"))
    elif len(arguments) == 4 and arguments[0] == "config":
        print(configuration(MODELS[arguments[1]], *arguments[2:]), end="")
    elif len(arguments) in (3, 4) and arguments[0] == "figures":
        print(figures(MODELS[arguments[1]], arguments[2], (arguments[3:] or ["farsight"])[0]))
    elif len(arguments) == 2 and arguments[0] == "memory":
        print(MODELS[arguments[1]].memory_gib)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
