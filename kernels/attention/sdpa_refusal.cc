// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "kernels/attention/sdpa_cuda.h"

namespace farsight {
namespace {

constexpr int64_t kWidest = 256;
constexpr int64_t kMost = std::numeric_limits<int32_t>::max();

bool fits_int32(int64_t x) { return x >= -kMost && x <= kMost; }
bool packed(const CudaSdpa& a) { return a.packing.q_starts != nullptr; }

const char* library_refusal(const CudaSdpa& a, bool backward, const SdpaLibrary& library) {
  if (library.version == 0) return "there is no cuDNN";
  if (library.version < 91501) return "cuDNN before 9.15.1 reads beyond its tensors when a CUDA graph is replayed";
  if (library.capability < 90) return "cuDNN attention was made sure of on Hopper and later devices only";
  if (!backward || library.capability < 100) return nullptr;
  if (a.deterministic) return "cuDNN has no deterministic attention backward of this form on Blackwell";
  const bool narrow = a.width <= 128 && a.value_width <= 128, latent = a.width == 192 && a.value_width == 128;
  return narrow || latent ? nullptr
                          : "cuDNN attention backward on Blackwell takes heads up to 128, or 192 with values of 128";
}

const char* shape_refusal(const CudaSdpa& a, bool backward) {
  for (const int64_t size : {a.batch, a.q_tokens, a.k_tokens, a.heads, a.kv_heads, a.width, a.value_width}) {
    if (size < 1 || size > kMost) return "cuDNN attention needs sizes from 1 to 2^31 - 1";
  }
  if (a.heads % a.kv_heads != 0) return "the key heads do not divide the query heads";
  if (a.width % 8 != 0 || a.value_width % 8 != 0) return "cuDNN attention needs head widths that are multiples of 8";
  if (a.width > kWidest || a.value_width > kWidest) return "cuDNN attention takes heads up to 256";
  if (!backward) return nullptr;
  if (a.q_tokens == 1 && a.k_tokens == 1) return "cuDNN attention backward needs more than one query and key";
  const bool wide = a.width >= 128 && a.value_width >= 128, latent = a.width == 192 && a.value_width == 128;
  if (a.width != a.value_width && wide && !latent)
    return "cuDNN has a fault in backward with wide keys and values of unequal width";
  return nullptr;
}

struct Matrix {
  const void* data;
  int64_t stride, columns;
};
// The library does not look: it would read and write somewhere else.
const char* memory_refusal(std::initializer_list<Matrix> matrices) {
  for (const Matrix& m : matrices) {
    if (m.stride % 8 != 0) return "cuDNN attention needs rows that begin at multiples of 16 bytes";
    if (m.stride < m.columns) return "the rows overlap";
    if (reinterpret_cast<uintptr_t>(m.data) % 16 != 0)
      return "cuDNN attention needs addresses that are multiples of 16";
  }
  return nullptr;
}

const char* mask_refusal(const CudaSdpa& a) {
  const SdpaBand band = sdpa_band(a);
  if (!fits_int32(a.shift) || !fits_int32(band.right_shift) || !fits_int32(band.left_shift))
    return "the shift is too large";
  // Documents have lengths that only the device knows: one key and one query stand for them.
  const int64_t queries = packed(a) ? 1 : a.q_tokens, keys = packed(a) ? 1 : a.k_tokens;
  const bool first_sees = !band.right || band.right_shift >= 0;
  const bool last_sees = !band.left || band.left_shift + keys > queries;
  if (a.low > a.high || !first_sees || !last_sees) return "a query sees no key, for which cuDNN promises nothing";
  if (band.left && !packed(a) && a.q_tokens > a.k_tokens) return "cuDNN windows need at least as many keys as queries";
  return nullptr;
}

const char* packing_refusal(const CudaSdpa& a, bool backward) {
  if (!packed(a)) return nullptr;
  const CudaSdpaPacking& p = a.packing;
  if (p.k_starts == nullptr || p.q_rows < 1 || p.k_rows < 1)
    return "packed documents need starts and rows of queries and keys";
  if (p.lse_tokens < 1 || p.q_rows % p.lse_tokens != 0) return "the packed rows do not have lse_tokens each";
  if (backward && (a.width % 16 != 0 || a.value_width % 16 != 0)) {
    return "cuDNN attention backward on packed documents needs head widths that are multiples of 16";
  }
  return nullptr;
}

}  // namespace

SdpaBand sdpa_band(const CudaSdpa& a) {
  SdpaBand band{};
  const bool ends = packed(a) && a.packing.align_ends;  // lengths are not known: every bound counts
  if (a.low > -kSdpaNoHigh) {
    band.right_shift = a.shift - a.low;
    band.right = ends || band.right_shift < a.k_tokens - 1;
  }
  if (a.high < kSdpaNoHigh) {
    band.left_shift = a.high - a.shift + 1;
    band.left = ends || band.left_shift < a.q_tokens;
  }
  return band;
}

const char* sdpa_refusal(const CudaSdpa& a, bool backward, const SdpaLibrary& library) {
  if (a.type != DType::bf16) return "cuDNN attention is used for bf16";
  // Its kernels may take the largest score before they scale.
  if (!(a.scale > 0.0F) || !std::isfinite(a.scale)) return "cuDNN attention needs a positive scale";
  if (const char* why = library_refusal(a, backward, library)) return why;
  if (const char* why = shape_refusal(a, backward)) return why;
  const int64_t query = a.heads * a.width, key = a.kv_heads * a.width, value = a.kv_heads * a.value_width;
  const auto* why = memory_refusal({{a.q, a.q_stride, query}, {a.k, a.k_stride, key}, {a.v, a.v_stride, value}});
  if (why != nullptr) return why;
  if (const char* why = packing_refusal(a, backward)) return why;
  return mask_refusal(a);
}

const char* sdpa_refusal(const CudaSdpaForward& call, const SdpaLibrary& library) {
  if (const char* why = sdpa_refusal(call.a, /*backward=*/false, library)) return why;
  return memory_refusal({{call.out, call.out_stride, call.a.heads * call.a.value_width}, {call.lse, 0, 0}});
}

const char* sdpa_refusal(const CudaSdpaBackward& call, const SdpaLibrary& library) {
  const CudaSdpa& a = call.a;
  if (const char* why = sdpa_refusal(a, /*backward=*/true, library)) return why;
  if (call.dq_type != DType::bf16 && call.dq_type != DType::f32) return "gradients of queries are bf16 or f32";
  return memory_refusal({{call.out, call.out_stride, a.heads * a.value_width},
                         {call.dout, call.dout_stride, a.heads * a.value_width},
                         {call.lse, 0, 0},
                         {call.dq, call.dq_stride, a.heads * a.width},
                         {call.dk, call.dk_stride, a.kv_heads * a.width},
                         {call.dv, call.dv_stride, a.kv_heads * a.value_width}});
}

}  // namespace farsight
