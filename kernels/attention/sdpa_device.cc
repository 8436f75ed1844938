// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/sdpa_device.h"

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/attention/check.h"
#include "kernels/attention/sdpa_rects.h"
#include "kernels/cuda/device.h"
#include "kernels/error.h"
#include "kernels/rows.h"

namespace farsight {
namespace {

// One call of the library: a rectangle of one sample, or of all.
struct Part {
  SdpaRect rect;
  int64_t sample = 0, samples = 1;
};

struct Parts {
  std::vector<Part> list;
  std::string refusal;                      // why the library does not do this; empty: it does
  bool every_query = false;                 // one rectangle holds all queries, so that results need no merging
  bool every_key = false;                   // and all keys
  int64_t most_queries = 0, most_keys = 0;  // of a part, over its samples
};

const char* policy_refusal(const AttentionSpec& spec) {
  if (spec.backend == AttentionBackend::own) return "attention.backend = \"own\"";
  if (spec.score != AttentionScore::scaled_dot) return "the score is not a dot product";
  if (!spec.alibi_slopes.empty()) return "ALiBi";
  if (spec.dropout > 0.0) return "dropout of the weights";
  if (spec.entropy) return "row entropies";
  return nullptr;
}

Parts cut(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys) {
  Parts parts;
  if (const char* why = policy_refusal(spec)) {
    parts.refusal = why;
    return parts;
  }
  if (spec.documents) {
    // Equal runs are the same rows, whose documents the queries know.
    if (queries.packed.slots == 0 || queries.runs != keys.runs) parts.refusal = "documents reach over several blocks";
    parts.every_query = parts.every_key = true;
    parts.list.push_back({{0, queries.tokens, 0, keys.tokens, 0, 0, 0}, 0, queries.batch});
    parts.most_queries = parts.most_keys = queries.batch * queries.tokens;
    return parts;
  }
  const auto rects = sdpa_rects(MaskRule(spec), queries.runs, keys.runs);
  if (queries.runs.empty() || keys.runs.empty() || !rects) {
    parts.refusal = "positions do not grow evenly";
    return parts;
  }
  for (const SdpaRect& rect : *rects) {
    const bool whole = rect.queries == queries.tokens && rect.keys == keys.tokens;
    parts.every_query = rects->size() == 1 && rect.queries == queries.tokens;
    parts.every_key = parts.every_query && rect.keys == keys.tokens;
    const int64_t calls = whole ? 1 : queries.batch, samples = queries.batch / calls;
    for (int64_t b = 0; b < calls; ++b) parts.list.push_back({rect, b, samples});
    parts.most_queries = std::max(parts.most_queries, samples * rect.queries);
    parts.most_keys = std::max(parts.most_keys, samples * rect.keys);
  }
  return parts;
}

// Rows of a part in a matrix that holds `tokens` rows of each sample.
Tensor rows_of(const Tensor& matrix, const Part& part, int64_t tokens, int64_t first, int64_t rows) {
  return matrix.narrow(part.sample * tokens + first, part.samples * rows);
}
Tensor query_rows(const Tensor& matrix, const Part& part, const AttentionQueries& queries) {
  return rows_of(matrix, part, queries.tokens, part.rect.query, part.rect.queries);
}
Tensor key_rows(const Tensor& matrix, const Part& part, const AttentionKeys& keys) {
  return rows_of(matrix, part, keys.tokens, part.rect.key, part.rect.keys);
}

// Each document is a sample of its own.
void pack(const AttentionSpec& spec, const AttentionQueries& q, CudaSdpa& a) {
  const MaskRule rule(spec);
  const auto* starts = static_cast<const int32_t*>(q.packed.starts.raw());
  const int64_t rows = q.batch * q.tokens;
  a.batch = q.packed.slots;
  a.q_tokens = a.k_tokens = q.packed.longest;
  a.low = rule.low;
  a.high = rule.high;
  a.packing = {starts, starts, rows, rows, q.tokens, /*align_ends=*/false};
}

CudaSdpa describe(const AttentionSpec& spec, const AttentionQueries& q, const AttentionKeys& k, const Part& part) {
  CudaSdpa a{};
  a.type = q.q.dtype();
  a.batch = part.samples;
  a.q_tokens = part.rect.queries;
  a.k_tokens = part.rect.keys;
  a.heads = q.heads;
  a.kv_heads = k.heads;
  a.width = q.width;
  a.value_width = k.value_width;
  a.q = query_rows(q.q, part, q).raw();
  a.k = key_rows(k.k, part, k).raw();
  a.v = key_rows(k.v, part, k).raw();
  a.q_stride = q.q.row_stride();
  a.k_stride = k.k.row_stride();
  a.v_stride = k.v.row_stride();
  a.low = part.rect.low;
  a.high = part.rect.high;
  a.shift = part.rect.shift;
  a.scale = score_scale(spec, q.width);
  a.deterministic = cuda_device().deterministic();
  if (spec.documents) pack(spec, q, a);
  return a;
}

const SdpaLibrary& library() {
  static const SdpaLibrary found = [] {
    SdpaLibrary it{};
    if (cuda_device().backend().sdpa_library(&it) != 0) it.version = 0;
    return it;
  }();
  return found;
}

// Has the library build the plan of a call; the workspace that it takes grows with the largest.
std::string planned(const CudaSdpaForward* forward, const CudaSdpaBackward* backward, int64_t& workspace) {
  const CudaSdpa& a = forward != nullptr ? forward->a : backward->a;
  if (const char* why = sdpa_refusal(a, backward != nullptr, library())) return why;
  CudaDevice& device = cuda_device();
  int64_t bytes = 0;
  const CudaSdpaPlan plan{forward, backward, &bytes};
  if (device.backend().sdpa_plan(&plan, device.stream()) != 0) return device.backend().message();
  if (bytes > device.workspace_limit()) {
    return fmt::format(
        "cuDNN asks for {} MiB of workspace, more than an eighth of the device; run.deterministic = "
        "false needs less",
        bytes >> 20);
  }
  workspace = std::max(workspace, bytes);
  return {};
}

Tensor workspace_of(int64_t bytes) {
  return Tensor::empty({std::max<int64_t>(bytes, 16) / 4 + 1}, DType::f32, MemoryTag::attention);
}

// Says once what computes, and whether that is the library.
bool decided(const char* what, const AttentionSpec& spec, const std::string& refusal) {
  if (refusal.empty()) {
    const int64_t v = library().version;
    cuda_device().note(what, fmt::format("cuDNN {}.{}.{}", v / 10000, v / 100 % 100, v % 100));
    return true;
  }
  if (spec.backend == AttentionBackend::library) {
    fail(ErrorKind::config, "attention.backend = \"cudnn\" cannot compute this {}: {}", what, refusal);
  }
  cuda_device().note(what, "own tile kernels (not cuDNN: " + refusal + ")");
  return false;
}

constexpr const char* kForward = "attention forward";
constexpr const char* kBackward = "attention backward";

std::vector<CudaSdpaForward> forward_calls(const AttentionSpec& spec, const AttentionQueries& queries,
                                           const AttentionKeys& keys, Parts& parts, int64_t& workspace,
                                           const Tensor& out, const Tensor& lse, bool in_place) {
  std::vector<CudaSdpaForward> calls;
  for (const Part& part : parts.list) {
    CudaSdpaForward f{};
    f.a = describe(spec, queries, keys, part);
    f.out = in_place ? query_rows(out, part, queries).raw() : out.raw();
    f.out_stride = out.row_stride();
    f.lse = static_cast<float*>(lse.raw()) + (in_place ? part.sample * queries.heads * queries.tokens : 0);
    parts.refusal = planned(&f, nullptr, workspace);
    if (!parts.refusal.empty()) break;
    calls.push_back(f);
  }
  return calls;
}

void run(CudaSdpaForward call, const Tensor& workspace) {
  call.workspace = workspace.raw();
  call.workspace_bytes = workspace.bytes();
  cuda_device().run(kForward, &CudaBackend::sdpa_forward, call);
}

void merge(const CudaSdpaForward& call, const Part& part, const AttentionQueries& queries, AttentionState& state) {
  const int64_t tokens = queries.tokens, heads = queries.heads, width = call.a.value_width;
  CudaAttentionMerge m{};
  m.type = call.a.type;
  m.batch = part.samples;
  m.rows = part.rect.queries;
  m.heads = heads;
  m.value_width = width;
  m.out = call.out;
  m.out_stride = call.out_stride;
  m.lse = call.lse;
  m.tokens = tokens;
  m.first = part.rect.query;
  const int64_t before = part.sample * heads * tokens;
  m.m = static_cast<float*>(state.m.raw()) + before;
  m.l = static_cast<float*>(state.l.raw()) + before;
  m.o = static_cast<float*>(state.o.raw()) + before * width;
  cuda_device().run("attention_merge", &CudaBackend::attention_merge, m);
}

// The statistics [samples, H, queries] of a part.
Tensor statistics_of(const Tensor& whole, const Part& part, int64_t tokens) {
  if (part.rect.queries == tokens) return whole.narrow(part.sample, part.samples);
  const int64_t heads = whole.dim(1);
  const Tensor own = Tensor::empty({heads, part.rect.queries}, DType::f32, MemoryTag::attention);
  copy_rows(whole.narrow(part.sample, 1).view({heads, tokens}).narrow_last(part.rect.query, part.rect.queries), own);
  return own;
}

// Where the gradients of a part are written: the tensors of the caller, or scratch that is added to them.
struct PartGradients {
  Tensor dq, dk, dv;
};

PartGradients gradient_scratch(const Parts& parts, const AttentionQueries& q, const AttentionKeys& k) {
  const auto rows = [](int64_t count, int64_t columns, DType type) {
    return Tensor::empty({count, columns}, type, MemoryTag::attention);
  };
  return {rows(parts.most_queries, q.heads * q.width, DType::f32),
          rows(parts.most_keys, k.heads * k.width, q.q.dtype()),
          rows(parts.most_keys, k.heads * k.value_width, q.q.dtype())};
}

CudaSdpaBackward backward_call(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys,
                               const AttentionRowSaved& saved, const Part& part, const PartGradients& to) {
  CudaSdpaBackward b{};
  b.a = describe(spec, queries, keys, part);
  b.out = query_rows(saved.out, part, queries).raw();
  b.out_stride = saved.out.row_stride();
  b.dout = query_rows(saved.dout, part, queries).raw();
  b.dout_stride = saved.dout.row_stride();
  b.dq_type = to.dq.dtype();
  b.dq = to.dq.raw();
  b.dk = to.dk.raw();
  b.dv = to.dv.raw();
  b.dq_stride = to.dq.row_stride();
  b.dk_stride = to.dk.row_stride();
  b.dv_stride = to.dv.row_stride();
  return b;
}

}  // namespace

bool sdpa_forward(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys,
                  AttentionState& state) {
  Parts parts = cut(spec, queries, keys);
  if (!parts.refusal.empty()) return decided(kForward, spec, parts.refusal);
  if (parts.list.empty()) return true;  // nothing is visible
  const Tensor out = Tensor::empty({parts.most_queries, queries.heads * keys.value_width}, queries.q.dtype());
  const Tensor lse = Tensor::empty({parts.most_queries * queries.heads});
  int64_t bytes = 0;
  const auto calls = forward_calls(spec, queries, keys, parts, bytes, out, lse, /*in_place=*/false);
  if (!decided(kForward, spec, parts.refusal)) return false;
  const Tensor workspace = workspace_of(bytes);
  for (size_t i = 0; i < calls.size(); ++i) {
    run(calls[i], workspace);
    merge(calls[i], parts.list[i], queries, state);
  }
  return true;
}

bool sdpa_forward(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys,
                  const Tensor& out, const Tensor& lse) {
  Parts parts = cut(spec, queries, keys);
  if (parts.refusal.empty() && !parts.every_query) parts.refusal = "not every query sees a key";
  int64_t bytes = 0;
  std::vector<CudaSdpaForward> calls;
  if (parts.refusal.empty()) calls = forward_calls(spec, queries, keys, parts, bytes, out, lse, /*in_place=*/true);
  if (!decided(kForward, spec, parts.refusal)) return false;
  const Tensor workspace = workspace_of(bytes);
  for (const auto& call : calls) run(call, workspace);
  return true;
}

bool sdpa_backward(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys,
                   const AttentionRowSaved& saved, const AttentionGradients& gradients) {
  Parts parts = cut(spec, queries, keys);
  if (parts.refusal.empty() && !saved.out.defined()) parts.refusal = "a gradient flows into the statistics of the rows";
  const bool in_place =
      parts.every_key && !gradients.add_q && !gradients.add_kv && gradients.dq.dtype() == queries.q.dtype();
  PartGradients to{gradients.dq, gradients.dk, gradients.dv};
  if (parts.refusal.empty() && !in_place) to = gradient_scratch(parts, queries, keys);
  int64_t bytes = 0;
  std::vector<CudaSdpaBackward> calls;
  for (const Part& part : parts.list) {
    if (!parts.refusal.empty()) break;
    calls.push_back(backward_call(spec, queries, keys, saved, part, to));
    parts.refusal = planned(nullptr, &calls.back(), bytes);
  }
  if (!decided(kBackward, spec, parts.refusal)) return false;
  if (!in_place && !gradients.add_q) gradients.dq.fill_zero();
  if (!in_place && !gradients.add_kv) gradients.dk.fill_zero();
  if (!in_place && !gradients.add_kv) gradients.dv.fill_zero();
  const Tensor workspace = workspace_of(bytes);
  for (size_t i = 0; i < calls.size(); ++i) {
    const Part& part = parts.list[i];
    const Tensor lse = statistics_of(saved.lse, part, queries.tokens);
    calls[i].lse = static_cast<const float*>(lse.raw());
    calls[i].workspace = workspace.raw();
    calls[i].workspace_bytes = workspace.bytes();
    cuda_device().run(kBackward, &CudaBackend::sdpa_backward, calls[i]);
    if (in_place) continue;
    const int64_t q_rows = part.samples * part.rect.queries, k_rows = part.samples * part.rect.keys;
    add_rows(to.dq.narrow(0, q_rows), query_rows(gradients.dq, part, queries));
    add_rows(to.dk.narrow(0, k_rows), key_rows(gradients.dk, part, keys));
    add_rows(to.dv.narrow(0, k_rows), key_rows(gradients.dv, part, keys));
  }
  return true;
}

}  // namespace farsight
