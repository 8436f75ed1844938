// SPDX-License-Identifier: Apache-2.0
// Attention of the emulated device: what cuDNN does on a real one, by the definition, one row at a time. Weights and
// score gradients are rounded to bf16 where the library feeds them to its matrix units.
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention/sdpa_cuda.h"
#include "kernels/attention/sdpa_offsets_cuda.h"
#include "kernels/bfloat16.h"
#include "kernels/cuda/operations_cuda.h"
#include "tests/emulation/streams.h"

namespace farsight::cuda {
namespace {

constexpr SdpaLibrary kEmulated{91900, 90};
constexpr int64_t kUnbounded = std::numeric_limits<int64_t>::max();

float rounded(float x) { return bf16_to_float(float_to_bf16(x)); }

// Where the samples of one call begin and how long they are; of packed documents as the device says.
class Samples {
 public:
  Samples(const CudaSdpa& a, const void* workspace) : a_(a), documents_(layout(a, const_cast<void*>(workspace))) {}

  // The arrays of a packed call in its workspace.
  static SdpaDocuments layout(const CudaSdpa& a, void* workspace) {
    SdpaDocuments d{};
    const CudaSdpaPacking& p = a.packing;
    auto* offsets = static_cast<int64_t*>(workspace);
    d.documents = a.batch;
    d.q_starts = p.q_starts;
    d.k_starts = p.k_starts;
    d.count = 3;
    d.matrices[0] = {p.q_starts, 1, kUnbounded, 0, offsets};
    d.matrices[1] = {p.k_starts, 1, kUnbounded, 0, offsets + a.batch + 1};
    d.matrices[2] = {p.q_starts, 1, p.lse_tokens, a.heads * p.lse_tokens, offsets + 2 * (a.batch + 1)};
    d.q_lengths = reinterpret_cast<int32_t*>(offsets + 3 * (a.batch + 1));
    d.k_lengths = d.q_lengths + a.batch;
    return d;
  }
  static int64_t bytes(const CudaSdpa& a) {
    return a.packing.q_starts == nullptr ? 0 : (3 * (a.batch + 1) + a.batch) * 8;
  }

  bool packed() const { return a_.packing.q_starts != nullptr; }
  int64_t queries(int64_t n) const { return packed() ? documents_.q_lengths[n] : a_.q_tokens; }
  int64_t keys(int64_t n) const { return packed() ? documents_.k_lengths[n] : a_.k_tokens; }
  int64_t query_row(int64_t n, int64_t i) const {
    return packed() ? documents_.matrices[0].offsets[n] + i : n * a_.q_tokens + i;
  }
  int64_t key_row(int64_t n, int64_t j) const {
    return packed() ? documents_.matrices[1].offsets[n] + j : n * a_.k_tokens + j;
  }
  int64_t statistic(int64_t n, int64_t h, int64_t i) const {
    if (packed()) return documents_.matrices[2].offsets[n] + h * a_.packing.lse_tokens + i;
    return (n * a_.heads + h) * a_.q_tokens + i;
  }
  bool visible(int64_t n, int64_t i, int64_t j) const {
    const int64_t ends = packed() && a_.packing.align_ends ? keys(n) - queries(n) : 0;
    const int64_t distance = i + a_.shift + ends - j;
    const bool low = a_.low <= -kSdpaNoHigh || distance >= a_.low, high = a_.high == kSdpaNoHigh || distance <= a_.high;
    return low && high;
  }

 private:
  const CudaSdpa& a_;
  SdpaDocuments documents_;
};

// Columns of one head in one row of a bf16 matrix.
const uint16_t* at(const void* matrix, int64_t row, int64_t stride, int64_t head, int64_t width) {
  return static_cast<const uint16_t*>(matrix) + row * stride + head * width;
}
float dot(const uint16_t* x, const uint16_t* y, int64_t n) {
  float sum = 0.0F;
  for (int64_t c = 0; c < n; ++c) sum += bf16_to_float(x[c]) * bf16_to_float(y[c]);
  return sum;
}
float score(const CudaSdpa& a, const Samples& s, int64_t n, int64_t h, int64_t i, int64_t j) {
  const uint16_t* q = at(a.q, s.query_row(n, i), a.q_stride, h, a.width);
  const uint16_t* k = at(a.k, s.key_row(n, j), a.k_stride, h * a.kv_heads / a.heads, a.width);
  return a.scale * dot(q, k, a.width);
}

void forward_row(const CudaSdpaForward& f, const Samples& s, int64_t n, int64_t h, int64_t i) {
  const CudaSdpa& a = f.a;
  const int64_t keys = s.keys(n);
  std::vector<float> p(static_cast<size_t>(keys), -std::numeric_limits<float>::infinity());
  float largest = -std::numeric_limits<float>::infinity(), sum = 0.0F;
  for (int64_t j = 0; j < keys; ++j) {
    if (!s.visible(n, i, j)) continue;
    p[static_cast<size_t>(j)] = score(a, s, n, h, i, j);
    largest = std::max(largest, p[static_cast<size_t>(j)]);
  }
  const bool sees = largest > -std::numeric_limits<float>::infinity();
  for (float& x : p) sum += x = sees ? std::exp(x - largest) : 0.0F;
  f.lse[s.statistic(n, h, i)] = sees ? largest + std::log(sum) : largest;
  std::vector<float> out(static_cast<size_t>(a.value_width), 0.0F);
  for (int64_t j = 0; j < keys && sees; ++j) {
    const uint16_t* v = at(a.v, s.key_row(n, j), a.v_stride, h * a.kv_heads / a.heads, a.value_width);
    const float weight = rounded(p[static_cast<size_t>(j)] / sum);
    for (size_t c = 0; c < out.size(); ++c) out[c] += weight * bf16_to_float(v[c]);
  }
  uint16_t* to = static_cast<uint16_t*>(f.out) + s.query_row(n, i) * f.out_stride + h * a.value_width;
  for (size_t c = 0; c < out.size(); ++c) to[c] = float_to_bf16(out[c]);
}

// Gradients in fp32, before they are rounded: dq [queries, D], dk [keys, D], dv [keys, Dv] of one sample and key head.
struct Sums {
  std::vector<float> dq, dk, dv;
};

void backward_row(const CudaSdpaBackward& b, const Samples& s, int64_t n, int64_t h, int64_t i, Sums& to) {
  const CudaSdpa& a = b.a;
  const float lse = b.lse[s.statistic(n, h, i)];
  if (lse == -std::numeric_limits<float>::infinity()) return;
  const int64_t kv = h * a.kv_heads / a.heads;
  const uint16_t* q = at(a.q, s.query_row(n, i), a.q_stride, h, a.width);
  const uint16_t* d = at(b.dout, s.query_row(n, i), b.dout_stride, h, a.value_width);
  const float term = dot(d, at(b.out, s.query_row(n, i), b.out_stride, h, a.value_width), a.value_width);
  for (int64_t j = 0; j < s.keys(n); ++j) {
    if (!s.visible(n, i, j)) continue;
    const uint16_t* k = at(a.k, s.key_row(n, j), a.k_stride, kv, a.width);
    const uint16_t* v = at(a.v, s.key_row(n, j), a.v_stride, kv, a.value_width);
    const float p = std::exp(score(a, s, n, h, i, j) - lse);
    const float ds = rounded(a.scale * p * (dot(d, v, a.value_width) - term));
    for (int64_t c = 0; c < a.width; ++c) {
      to.dq[static_cast<size_t>((i * a.heads + h) * a.width + c)] += ds * bf16_to_float(k[c]);
      to.dk[static_cast<size_t>((j * a.kv_heads + kv) * a.width + c)] += ds * bf16_to_float(q[c]);
    }
    for (int64_t c = 0; c < a.value_width; ++c) {
      to.dv[static_cast<size_t>((j * a.kv_heads + kv) * a.value_width + c)] += rounded(p) * bf16_to_float(d[c]);
    }
  }
}

void write_row(const std::vector<float>& from, int64_t row, int64_t columns, void* to, int64_t at_row, int64_t stride,
               DType type) {
  for (int64_t c = 0; c < columns; ++c) {
    const float x = from[static_cast<size_t>(row * columns + c)];
    if (type == DType::f32) {
      static_cast<float*>(to)[at_row * stride + c] = x;
    } else {
      static_cast<uint16_t*>(to)[at_row * stride + c] = float_to_bf16(x);
    }
  }
}

void backward_sample(const CudaSdpaBackward& b, const Samples& s, int64_t n) {
  const CudaSdpa& a = b.a;
  const int64_t queries = s.queries(n), keys = s.keys(n), q_width = a.heads * a.width;
  const int64_t k_width = a.kv_heads * a.width, v_width = a.kv_heads * a.value_width;
  Sums sums{std::vector<float>(static_cast<size_t>(queries * q_width)),
            std::vector<float>(static_cast<size_t>(keys * k_width)),
            std::vector<float>(static_cast<size_t>(keys * v_width))};
  for (int64_t h = 0; h < a.heads; ++h) {
    for (int64_t i = 0; i < queries; ++i) backward_row(b, s, n, h, i, sums);
  }
  for (int64_t i = 0; i < queries; ++i) write_row(sums.dq, i, q_width, b.dq, s.query_row(n, i), b.dq_stride, b.dq_type);
  for (int64_t j = 0; j < keys; ++j) {
    write_row(sums.dk, j, k_width, b.dk, s.key_row(n, j), b.dk_stride, a.type);
    write_row(sums.dv, j, v_width, b.dv, s.key_row(n, j), b.dv_stride, a.type);
  }
}

// What both operations begin with: status 0 if the call may be enqueued.
template <class Call>
int prepare(const Call& call, CudaStream stream) {
  if (const char* why = sdpa_refusal(call, kEmulated)) return failed(1, "attention", why);
  if (call.workspace_bytes < Samples::bytes(call.a)) return failed(1, "attention", "the workspace is too small");
  if (call.a.packing.q_starts == nullptr) return 0;
  return sdpa_documents(Samples::layout(call.a, call.workspace), stream);
}

}  // namespace

int sdpa_library(SdpaLibrary* library) {
  *library = kEmulated;
  return 0;
}

int sdpa_plan(const CudaSdpaPlan* p, CudaStream) {
  const bool forward = p->forward != nullptr;
  const char* why = forward ? sdpa_refusal(*p->forward, kEmulated) : sdpa_refusal(*p->backward, kEmulated);
  if (why != nullptr) return failed(1, "attention plan", why);
  *p->workspace_bytes = Samples::bytes(forward ? p->forward->a : p->backward->a);
  return 0;
}

int sdpa_forward(const CudaSdpaForward* f, CudaStream stream) {
  if (int status = prepare(*f, stream)) return status;
  return emulation::enqueue(stream, [call = *f] {
    const Samples samples(call.a, call.workspace);
    for (int64_t n = 0; n < call.a.batch; ++n) {
      for (int64_t h = 0; h < call.a.heads; ++h) {
        for (int64_t i = 0; i < samples.queries(n); ++i) forward_row(call, samples, n, h, i);
      }
    }
  });
}

int sdpa_backward(const CudaSdpaBackward* b, CudaStream stream) {
  if (int status = prepare(*b, stream)) return status;
  return emulation::enqueue(stream, [call = *b] {
    const Samples samples(call.a, call.workspace);
    for (int64_t n = 0; n < call.a.batch; ++n) backward_sample(call, samples, n);
  });
}

}  // namespace farsight::cuda
