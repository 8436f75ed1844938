#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Training steps of the GPU suite's models in plain PyTorch: what train_gpu.sh is measured against.

  torch_train.py MODEL... [--precision=pure,autocast] [--attention=cudnn,flash] [--compile=model|block|none]

pure: bf16 weights and gradients, fp32 master weights and moments; autocast: fp32 weights, products in bf16. The output
projection and the cross-entropy go chunk by chunk and leave no logits behind. One JSON line a setting: median of 20
steps after 10, forward, backward, clip and fused AdamW, by CUDA events. Exit code 77 where there is no torch or device.
"""
import argparse
import gc
import statistics
import sys

from gpu_models import MODELS, TIMED, WARM_UP, line

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
    from torch.nn.attention import SDPBackend, sdpa_kernel
except ImportError as missing:
    print(f"SKIP: PyTorch is not installed ({missing})")
    sys.exit(77)
if not torch.cuda.is_available():
    print("SKIP: PyTorch sees no CUDA device")
    sys.exit(77)

CHUNK = 4096  # rows of logits held at once
ATTENTION = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


def takes_groups(backend):
    """Whether this backend takes fewer key heads than query heads."""
    q, k = (torch.randn(1, heads, 128, 64, device="cuda", dtype=torch.bfloat16) for heads in (4, 2))
    try:
        with sdpa_kernel(ATTENTION[backend]):
            F.scaled_dot_product_attention(q, k, k, is_causal=True, enable_gqa=True)
        return True
    except RuntimeError:
        return False


def rotate(x, cosine, sine):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cosine - b * sine, b * cosine + a * sine), dim=-1)


class Block(nn.Module):
    def __init__(self, m, groups):
        super().__init__()
        kv = m.kv_heads * m.head_width
        norm = nn.LayerNorm if m.gpt else nn.RMSNorm
        self.m, self.groups = m, groups
        self.first, self.second = norm(m.width), norm(m.width)
        self.qkv = nn.Linear(m.width, m.width + 2 * kv, bias=m.gpt)
        self.out = nn.Linear(m.width, m.width, bias=m.gpt)
        self.up = nn.Linear(m.width, m.mlp_width * (1 if m.gpt else 2), bias=m.gpt)
        self.down = nn.Linear(m.mlp_width, m.width, bias=m.gpt)

    def attention(self, x, cosine, sine):
        m, (b, t, _) = self.m, x.shape
        q, k, v = self.qkv(x).view(b, t, m.heads + 2 * m.kv_heads, m.head_width).split(
            (m.heads, m.kv_heads, m.kv_heads), dim=2)
        if not m.gpt:
            q, k = rotate(q, cosine, sine).to(v.dtype), rotate(k, cosine, sine).to(v.dtype)
        q, k, v = (z.transpose(1, 2).contiguous() for z in (q, k, v))
        if not self.groups and m.heads != m.kv_heads:
            k, v = (z.repeat_interleave(m.heads // m.kv_heads, dim=1) for z in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=k.shape[1] != q.shape[1])
        return self.out(y.transpose(1, 2).reshape(b, t, m.width))

    def mlp(self, x):
        if self.m.gpt:
            return self.down(F.gelu(self.up(x), approximate="tanh"))
        gate, up = self.up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)

    def forward(self, x, cosine, sine):
        x = x + self.attention(self.first(x), cosine, sine)
        return x + self.mlp(self.second(x))


class Decoder(nn.Module):
    """Everything before the output projection, which shares the embedding's matrix."""

    def __init__(self, m, groups):
        super().__init__()
        self.embedding = nn.Embedding(m.vocab, m.width)
        self.positions = nn.Embedding(m.tokens, m.width) if m.gpt else None
        self.blocks = nn.ModuleList(Block(m, groups) for _ in range(m.layers))
        self.norm = (nn.LayerNorm if m.gpt else nn.RMSNorm)(m.width)
        for name, p in self.named_parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02 / (2 * m.layers) ** 0.5 if name.endswith(("out.weight", "down.weight")) else 0.02)
        half = m.head_width // 2
        angles = torch.outer(torch.arange(m.tokens), 10000.0 ** (-torch.arange(half) / half))[:, None, :]
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)

    def forward(self, ids):
        x = self.embedding(ids)
        if self.positions is not None:
            x = x + self.positions.weight
        for block in self.blocks:
            x = block(x, self.cosine, self.sine)
        return self.norm(x)


def loss_and_gradient(logits, labels, scale):
    z = logits.float()
    top = z - z.amax(dim=-1, keepdim=True)
    e = top.exp()
    total = e.sum(dim=-1, keepdim=True)
    hit = torch.arange(z.shape[-1], device=z.device) == labels[:, None]
    loss = (total.log().squeeze(-1) - torch.where(hit, top, 0.0).sum(dim=-1)).sum()
    return loss * scale, ((e / total - hit.float()) * scale).to(logits.dtype)


class ProjectedLoss(torch.autograd.Function):
    """Gradients are formed in forward while a chunk of logits exists, so nothing is computed twice."""
    kernel = staticmethod(torch.compile(loss_and_gradient))

    @staticmethod
    def forward(ctx, x, weight, labels):
        w, scale = weight.detach().to(torch.bfloat16), 1.0 / labels.numel()
        x = x.to(torch.bfloat16)
        dx, dw, loss = torch.empty_like(x), torch.zeros_like(w), torch.zeros((), device=x.device)
        for rows, y, d in zip(x.split(CHUNK), labels.split(CHUNK), dx.split(CHUNK)):
            part, dz = ProjectedLoss.kernel(rows @ w.T, y, scale)
            loss += part
            torch.mm(dz, w, out=d)
            dw.addmm_(dz.T, rows)
        ctx.save_for_backward(dx, dw.to(weight.dtype))
        return loss

    @staticmethod
    def backward(ctx, grad):
        dx, dw = ctx.saved_tensors
        return dx * grad, dw * grad, None


class MasterAdamW:
    """Fused AdamW on fp32 master weights; with bf16 weights these get the rounded values after each step."""

    def __init__(self, model, pure):
        self.weights = list(model.parameters())
        self.master = [p.detach().float().clone() for p in self.weights] if pure else self.weights
        self.optimizer = torch.optim.AdamW(self.master, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
        if pure:
            for p in self.master:
                p.grad = torch.zeros_like(p)

    def step(self):
        if self.master is not self.weights:
            torch._foreach_copy_([p.grad for p in self.master], [p.grad for p in self.weights])
        torch.nn.utils.clip_grad_norm_(self.master, 1.0, foreach=True)
        self.optimizer.step()
        if self.master is not self.weights:
            with torch.no_grad():
                torch._foreach_copy_(self.weights, self.master)
        for p in self.weights:
            p.grad = None


def measure(m, precision, attention, how):
    torch.manual_seed(1)
    torch.cuda.reset_peak_memory_stats()
    pure = precision == "pure"
    with torch.device("cuda"):
        model = Decoder(m, takes_groups(attention))
    if pure:
        optimizer = MasterAdamW(model, True)  # the master weights are those before rounding
        model.to(torch.bfloat16)
        optimizer.weights = list(model.parameters())
    else:
        optimizer = MasterAdamW(model, False)
    run = torch.compile(model) if how == "model" else model
    if how == "block":
        for block in model.blocks:
            block.compile()
    ids = [torch.randint(m.vocab, (m.batch, m.tokens + 1)).pin_memory() for _ in range(4)]

    def step(i):
        batch = ids[i % len(ids)].cuda(non_blocking=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=not pure):
            x = run(batch[:, :-1].contiguous())
        loss = ProjectedLoss.apply(x.flatten(0, 1), model.embedding.weight, batch[:, 1:].reshape(-1))
        loss.backward()
        optimizer.step()
        return loss

    with sdpa_kernel(ATTENTION[attention]):
        for i in range(WARM_UP):
            loss = step(i)
        events = [torch.cuda.Event(enable_timing=True) for _ in range(TIMED + 1)]
        events[0].record()
        for i in range(TIMED):
            loss = step(i)
            events[i + 1].record()
        torch.cuda.synchronize()
    if not loss.isfinite():
        raise RuntimeError("the loss is not finite")
    seconds = statistics.median(a.elapsed_time(b) for a, b in zip(events, events[1:])) * 1e-3
    label = f"torch {torch.__version__.split('+')[0]} {precision} {attention} compile={how}"
    print(line(m, label, m.batch * m.tokens / seconds, torch.cuda.max_memory_allocated()), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+", choices=MODELS)
    parser.add_argument("--precision", default="pure,autocast")
    parser.add_argument("--attention", default="cudnn,flash")
    parser.add_argument("--compile", default="model", choices=("model", "block", "none"))
    options = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    failed = 0
    for name in options.models:
        if torch.cuda.get_device_properties(0).total_memory < MODELS[name].memory_gib * 2**30:
            print(f"SKIP: {name} needs {MODELS[name].memory_gib} GiB", file=sys.stderr)
            continue
        for precision in options.precision.split(","):
            for attention in options.attention.split(","):
                try:
                    measure(MODELS[name], precision, attention, options.compile)
                except (RuntimeError, torch.OutOfMemoryError) as error:
                    print(f"torch_train.py: {name} {precision} {attention}: {str(error).splitlines()[0]}", file=sys.stderr)
                    failed += 1
                torch._dynamo.reset()
                gc.collect()
                torch.cuda.empty_cache()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
