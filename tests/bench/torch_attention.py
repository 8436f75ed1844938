#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""PyTorch's attention, matrix product and copy at the shapes of device_bench.    torch_attention.py [T...]

One JSON line a measurement: median of 20 rounds after 10 by CUDA events, random inputs in turns beyond the caches,
causal, bf16, FLOPs of the visible half. Exit code 77 where there is no torch or device.
"""
import json
import statistics
import sys

try:
    import torch
    from torch.nn import functional as F
    from torch.nn.attention import SDPBackend, sdpa_kernel
except ImportError as missing:
    print(f"SKIP: PyTorch is not installed ({missing})")
    sys.exit(77)
if not torch.cuda.is_available():
    print("SKIP: PyTorch sees no CUDA device")
    sys.exit(77)

WARM_UP, TIMED = 10, 20
BEYOND_CACHES = 256 << 20
BACKENDS = {"torch cuDNN": SDPBackend.CUDNN_ATTENTION, "torch flash": SDPBackend.FLASH_ATTENTION}


def seconds(run):
    for i in range(WARM_UP):
        run(i)
    events = [torch.cuda.Event(enable_timing=True) for _ in range(TIMED + 1)]
    events[0].record()
    for i in range(TIMED):
        run(i)
        events[i + 1].record()
    torch.cuda.synchronize()
    return statistics.median(a.elapsed_time(b) for a, b in zip(events, events[1:])) * 1e-3


def show(what, value, unit, note=""):
    print(json.dumps({"section": "kernels", "what": what, "value": value, "unit": unit, "note": note}), flush=True)


def sets(size):
    return max(1, min(63, BEYOND_CACHES // size)) + 1


def heads(count, tokens, width, grad):
    """[B, H, T, D] as it lies in a contiguous [B, T, H, D]."""
    x = torch.randn(1, tokens, count, width, device="cuda", dtype=torch.bfloat16).transpose(1, 2)
    return x.requires_grad_(grad)


def attention(name, tokens, h, kv, width):
    shape = f"H{h}/{kv} D{width} T {tokens}"
    inputs = [(heads(h, tokens, width, True), heads(kv, tokens, width, True), heads(kv, tokens, width, True))
              for _ in range(sets(2 * tokens * width * (h + 2 * kv)))]
    dout = heads(h, tokens, width, False)

    def forward(i):
        return F.scaled_dot_product_attention(*inputs[i % len(inputs)], is_causal=True, enable_gqa=True)

    pairs = tokens * (tokens + 1) / 2
    try:
        with sdpa_kernel(BACKENDS[name]):
            with torch.no_grad():
                show(f"forward {name} {shape}", 4 * pairs * h * width / seconds(forward) * 1e-12, "TFLOP/s")
            outs = [forward(i) for i in range(len(inputs))]
            time = seconds(lambda i: torch.autograd.grad(outs[i % len(outs)], inputs[i % len(inputs)], dout, retain_graph=True))
            show(f"backward {name} {shape}", 10 * pairs * h * width / time * 1e-12, "TFLOP/s")
    except RuntimeError as error:
        show(f"attention {name} {shape}", 0.0, "TFLOP/s", str(error).splitlines()[0])


def ceilings():
    n = 8192
    a, b = ([torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2)] for _ in range(2))
    c = torch.empty_like(a[0])
    time = seconds(lambda i: torch.mm(a[i % 2], b[i % 2].T, out=c))
    show(f"product {n}x{n}x{n} bf16 torch", 2 * n**3 / time * 1e-12, "TFLOP/s")
    x = torch.randn(1 << 28, device="cuda")
    y = torch.empty_like(x)
    show("device copy, read and written torch", 8 * x.numel() / seconds(lambda i: y.copy_(x)) * 1e-9, "GB/s")


def main():
    ceilings()
    for tokens in [int(t) for t in sys.argv[1:]] or [2048, 4096, 8192, 16384, 32768]:
        for name in BACKENDS:
            attention(name, tokens, 64, 8, 128)
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
