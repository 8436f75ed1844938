// SPDX-License-Identifier: Apache-2.0
// Attention of the device's library (cuDNN), for the masks and shapes that it covers: scaled dot products in bf16 with
// a band mask, grouped heads, packed documents. The tile kernels of block_cuda.h do the rest.
//
//   if (const char* why = sdpa_refusal(a, /*backward=*/false, library)) ...use the tile kernels, and say why
//   CudaSdpaPlan plan{&forward, nullptr, &forward.workspace_bytes};
//   run(sdpa_plan, plan);                                  builds the plan and tells how much workspace it takes
//   forward.workspace = ...; run(sdpa_forward, forward);
//
// Notation: B batch rows, Tq / Tk query / key tokens, H / Hkv heads (Hkv divides H), D score width, Dv value width.
// Rows are those of block.h: row b * Tq + t of q holds query t of sample b, its columns [h * D, (h + 1) * D) are head
// h; the matrices may be column views, so the stride from token to token is given and that from sample to sample is T
// times it. Addresses and strides of all matrices are multiples of 16 bytes, a workspace begins at a multiple of 256.
// A call returns before the device has done the work. Calls of different threads share nothing.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/dtype.h"

namespace farsight {

// A bound that masks nothing. Bounds of MaskRule that come from kNoWindow mean the same.
inline constexpr int32_t kSdpaNoLow = std::numeric_limits<int32_t>::min();
inline constexpr int32_t kSdpaNoHigh = std::numeric_limits<int32_t>::max();

// Documents of one long row, or of several, laid end to end, that do not see each other: sample n of the call is
// document n, query i of it is row q_starts[n] + i of q, out, dout and dq, and key j row k_starts[n] + j of k, v, dk
// and dv.
struct CudaSdpaPacking {
  const int32_t *q_starts, *k_starts;  // [B + 1]; null: not packed. A document of no tokens fills a place that is left.
  int64_t q_rows, k_rows;              // of the matrices, at least what the last start says
  int64_t lse_tokens;  // lse is [q_rows / lse_tokens, H, lse_tokens]; no document crosses a multiple of lse_tokens
  bool align_ends;     // keys minus queries of a document are added to `shift`: its last query is beside its last key
};

struct CudaSdpa {
  DType type;                                                              // of q, k, v, out, dout, dk and dv: bf16
  int64_t batch, q_tokens, k_tokens, heads, kv_heads, width, value_width;  // packed: documents, tokens of the longest
  const void *q, *k, *v;
  int64_t q_stride, k_stride, v_stride;  // between tokens
  // Query i and key j (counted within the sample) see each other iff low <= i + shift - j <= high.
  int32_t low, high;
  int64_t shift;
  float scale;  // of the dot product
  // Of backward: equal bits from run to run, for B H Tq Tk 2 bytes of workspace. Forward always is.
  bool deterministic;
  CudaSdpaPacking packing;
};

// out = softmax(scale q k^T under the mask) v; lse [B, H, Tq] fp32 is the natural logarithm of the normaliser, written
// for backward and for merging with other key blocks. Every query sees a key: the library promises nothing for one that
// does not (out = 0, lse = -inf are meant), so sdpa_refusal names the masks that have such rows, and documents are the
// caller's to check. Rows outside of all documents are not written.
struct CudaSdpaForward {
  CudaSdpa a;
  void* out;
  int64_t out_stride;
  float* lse;
  void* workspace;
  int64_t workspace_bytes;
};

// This key block's part of the gradients: weights are exp(score - lse) and the row term is sum(dout * out), so that
// with out, lse and dout of the whole sequence the parts of several blocks add up. Written over, not added to; lse is
// finite, since every query sees a key. No gradient can flow into lse: for that there are the tile kernels.
struct CudaSdpaBackward {
  CudaSdpa a;
  const void* out;
  int64_t out_stride;
  const void* dout;
  int64_t dout_stride;
  const float* lse;
  DType dq_type;  // bf16, or f32 for sums over key blocks
  void *dq, *dk, *dv;
  int64_t dq_stride, dk_stride, dv_stride;
  void* workspace;
  int64_t workspace_bytes;
};

// Builds the plan of one call (the other is null), so that the call itself asks the library nothing, and says how much
// workspace it takes. All three are host pointers. The plan is kept per thread and device; the steady step finds it by
// sizes, strides and mask. Status not 0: the library refuses the call, message() has its words.
struct CudaSdpaPlan {
  const CudaSdpaForward* forward;
  const CudaSdpaBackward* backward;
  int64_t* workspace_bytes;
};

// The band of a mask as the graph expresses it. A side that masks nothing for these sizes is absent.
struct SdpaBand {
  bool right, left;                 // keys are masked on the right, on the left
  int64_t right_shift, left_shift;  // visible iff j <= i + right_shift and j + left_shift > i
};
SdpaBand sdpa_band(const CudaSdpa& a);

// What the plugin was built with and runs on: version = major * 10000 + minor * 100 + patch, 0 without the library;
// capability = 10 * major + minor of the device.
struct SdpaLibrary {
  int64_t version;
  int32_t capability;
};

// Why this call is not given to the library; null: it is. Needs no library. Null addresses are taken as aligned. The
// first form decides by sizes and mask, before there is an output; the operations use the others.
const char* sdpa_refusal(const CudaSdpa& a, bool backward, const SdpaLibrary& library);
const char* sdpa_refusal(const CudaSdpaForward& call, const SdpaLibrary& library);
const char* sdpa_refusal(const CudaSdpaBackward& call, const SdpaLibrary& library);

}  // namespace farsight
